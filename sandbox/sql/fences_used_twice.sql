-- Fences of an order that more than one call had, or that are higher than the order's own.
select
    call.order_key,
    call.fence,
    array_agg(call.attempt_id order by call.attempt_id) as attempt_ids
from passport_ops.attempt as call
inner join passport_ops.reservation as known on call.order_key = known.order_key
group by call.order_key, call.fence, known.fence
having count(*) > 1 or call.fence > known.fence
order by call.order_key, call.fence;
