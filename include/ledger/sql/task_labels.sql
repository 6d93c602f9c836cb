-- One row per mapped task, in the order of its index: how many orders it serves, and the first one's key.
select
    count(*) as orders,
    min(order_key) as order_key
from passport_ops.run_order
where run_id = %(run_id)s
group by task_index
order by task_index;
