-- The run's counts follow from what was assigned to it.
update passport_ops.run
set
    sliced = assigned.orders > %(per_order_limit)s,
    tasks = assigned.tasks,
    orders = assigned.orders
from (
    select
        count(*) as orders,
        count(distinct task_index) as tasks
    from passport_ops.run_order
    where run_id = %(run_id)s
) as assigned
where run.run_id = %(run_id)s
returning run.sliced, run.orders;
