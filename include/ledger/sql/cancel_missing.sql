-- An unserved key of a day that was read again and no longer returned is no longer eligible. One that somebody else is
-- writing right now is left to the next extraction, so that nobody waits for the other in a circle; and so is one that
-- was written since this one began to read the shop: a run that read it later may just have found it.
with gone as (
    select missing.order_key
    from passport_ops.reservation as missing
    where
        missing.business_day = any(%(days)s::date[])
        and missing.state = any(%(unserved)s::text[])
        and (missing.lease_until is null or missing.lease_until <= clock_timestamp())
        and not exists (
            select
            from pg_temp.incoming_order as returned
            where returned.order_key = missing.order_key
        )
        and (%(began_at)s::timestamptz is null or missing.updated_at < %(began_at)s)
    order by missing.order_key
    for update of missing skip locked
)

update passport_ops.reservation as known
set
    state = 'cancelled',
    reason = 'no longer returned by the extraction',
    lease_until = null,
    fence = known.fence + 1,
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
from gone
where known.order_key = gone.order_key
returning known.order_key;
