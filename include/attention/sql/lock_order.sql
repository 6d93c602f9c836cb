-- One order and the seconds left of its call's lease; 0 without a lease.
select
    known.state,
    known.fence,
    greatest(extract(epoch from known.lease_until - clock_timestamp()), 0)::double precision as lease_left
from passport_ops.reservation as known
where known.order_key = %(order_key)s
for update;
