-- The run's counts follow from what was dealt to it.
update passport_ops.run
set
    sliced = dealt.orders > %(per_order_limit)s,
    tasks = dealt.tasks,
    orders = dealt.orders
from (
    select
        count(*) as orders,
        count(distinct task_index) as tasks
    from passport_ops.run_order
    where run_id = %(run_id)s
) as dealt
where run.run_id = %(run_id)s
returning run.sliced, run.tasks, run.orders;
