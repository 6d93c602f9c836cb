-- The orders of some mapped tasks of a run, oldest first.
select
    dealt.task_index,
    dealt.order_key
from passport_ops.run_order as dealt
inner join passport_ops.reservation as known on dealt.order_key = known.order_key
where dealt.run_id = %(run_id)s and dealt.task_index = any(%(task_indexes)s::integer[])
order by known.business_day, known.paid_at, dealt.order_key;
