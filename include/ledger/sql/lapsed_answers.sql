-- Of orders whose calls' leases ended and were given up: raw answers that wait to be read all the same.
select
    call.order_key,
    call.attempt_id
from passport_ops.attempt as call
inner join passport_ops.answer as left_one on call.attempt_id = left_one.attempt_id
where
    call.order_key = any(%(order_keys)s::text[])
    and (call.outcome is null or call.outcome = 'unknown')
    and call.lease_until <= clock_timestamp()
order by call.attempt_id;
