-- The orders that want a link; one that somebody else is writing right now is left out and asked again soon.
select
    known.order_key,
    known.state,
    known.reason,
    known.fence,
    known.tag,
    known.on_unknown = 'hold' as holds_on_unknown,
    greatest(extract(epoch from known.lease_until - clock_timestamp()), 0)::double precision as lease_left
from passport_ops.reservation as known
where known.order_key = any(%(order_keys)s::text[])
for update of known skip locked;
