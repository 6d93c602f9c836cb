-- Calls whose lease is over and whose raw answer nobody has read: those of some orders, or of all where none is named.
-- A wrong link whose raw answer is there was read before there were withheld passports.
select
    call.order_key,
    call.attempt_id
from passport_ops.answer as unread
inner join passport_ops.attempt as call on unread.attempt_id = call.attempt_id and unread.intent_id = call.intent_id
where
    (%(order_keys)s::text[] is null or call.order_key = any(%(order_keys)s::text[]))
    and (call.outcome is null or call.outcome in ('unknown', 'wrong_link'))
    and call.lease_until <= clock_timestamp()
order by call.attempt_id
limit %(most)s;
