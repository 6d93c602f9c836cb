-- Orders that a call under this tag was made for, and whose lease is over.
select
    known.order_key,
    known.fence,
    known.on_unknown = 'hold' as holds_on_unknown
from passport_ops.reservation as known
left join passport_ops.attempt as call on known.order_key = call.order_key and known.fence = call.fence
where
    known.state = 'calling'
    and known.lease_until <= clock_timestamp()
    and coalesce(call.tag, known.tag) = %(tag)s
order by known.order_key
for update of known;
