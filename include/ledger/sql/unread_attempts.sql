-- Calls whose lease ended: the one that was under way for each order, and whether its raw answer waits to be read.
select
    leased.order_key,
    call.attempt_id,
    answered.attempt_id is not null as has_answer
from passport_ops.reservation as leased
inner join passport_ops.attempt as call on leased.order_key = call.order_key and leased.fence = call.fence
left join passport_ops.answer as answered on call.attempt_id = answered.attempt_id
where leased.order_key = any(%(order_keys)s::text[]);
