-- Some orders, by key, and the seconds left of each call's lease; 0 without a lease.
select
    known.order_key,
    known.state,
    known.reason,
    known.fence,
    greatest(extract(epoch from known.lease_until - clock_timestamp()), 0)::double precision as lease_left
from passport_ops.reservation as known
where known.order_key = any(%(order_keys)s::text[])
order by known.order_key
for update;
