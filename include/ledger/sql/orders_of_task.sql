-- A run's shape and the orders of one of its mapped tasks, oldest first; one row without an order where it has none.
select
    planned.sliced,
    assigned.order_key
from passport_ops.run as planned
left join passport_ops.run_order as assigned on planned.run_id = assigned.run_id and assigned.task_index = %(task_index)s
left join passport_ops.reservation as known on assigned.order_key = known.order_key
where planned.run_id = %(run_id)s
order by known.business_day, known.paid_at, assigned.order_key;
