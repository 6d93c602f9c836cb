-- The run's shape, and whether it was ever planned.
select
    sliced,
    tasks,
    orders,
    business_day
from passport_ops.run
where run_id = %(run_id)s;
