-- Seconds until the last lease of a call for the tag ends; null when no call is under way.
select extract(epoch from max(known.lease_until) - clock_timestamp())::double precision as seconds
from passport_ops.reservation as known
left join passport_ops.attempt as call on known.order_key = call.order_key and known.fence = call.fence
where known.state = 'calling' and coalesce(call.tag, known.tag) = %(tag)s;
