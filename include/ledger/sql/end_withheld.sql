-- Withheld passports whose certificate turned out to have a live row already.
update passport_ops.passport as held
set
    state = 'ended',
    link = null,
    ended_at = clock_timestamp(),
    end_reason = 'duplicate'
from passport_ops.attempt as call
where
    call.attempt_id = any(%(attempt_ids)s::bigint[])
    and held.order_key = call.order_key
    and held.attempt_id = call.attempt_id
    and held.state = 'withheld';
