-- An unserved key of a day that was read again and no longer returned is no longer eligible.
update passport_ops.reservation as known
set
    state = 'cancelled',
    reason = 'no longer returned by the extraction',
    lease_until = null,
    fence = known.fence + 1,
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
where known.business_day = any(%(days)s::date [])
and known.state in ('pending', 'calling', 'out_of_stock', 'unknown', 'held')
and (known.lease_until is null or known.lease_until <= clock_timestamp())
and not known.order_key = any(%(returned)s::text [])
returning known.order_key;
