-- The orders of intents that were never sent wait again.
update passport_ops.reservation as known
set
    state = 'pending',
    reason = 'not sent',
    lease_until = null,
    updated_at = clock_timestamp()
from unnest(%(order_keys)s::text[], %(fences)s::bigint[]) as freed (order_key, fence)
where known.order_key = freed.order_key and known.fence = freed.fence and known.state = 'calling';
