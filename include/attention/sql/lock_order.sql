-- One order, and how much of its call's lease is left, in seconds.
select
    known.state,
    known.reason,
    greatest(extract(epoch from known.lease_until - clock_timestamp()), 0)::double precision as lease_left
from passport_ops.reservation as known
where known.order_key = %(order_key)s
for update;
