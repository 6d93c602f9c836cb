-- Withheld passports whose links are still not accepted: they are read again when their orders have moved.
update passport_ops.passport as held
set read_at = clock_timestamp()
from passport_ops.attempt as call
where
    call.attempt_id = any(%(attempt_ids)s::bigint[])
    and held.order_key = call.order_key
    and held.attempt_id = call.attempt_id
    and held.state = 'withheld';
