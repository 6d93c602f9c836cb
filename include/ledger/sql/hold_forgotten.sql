-- While a recovery is open: orders that wait and were paid before it began may have a link that the ledger forgot. Each is
-- held once; one that a person released stays released.
with forgotten as (
    select
        known.order_key,
        known.tag,
        known.state,
        opened.recovery_id
    from passport_ops.recovery as opened
    inner join passport_ops.reservation as known on opened.began_at > known.paid_at
    where
        opened.ended_at is null
        and known.state = any(%(unserved)s::text[])
        and (%(order_keys)s::text[] is null or known.order_key = any(%(order_keys)s::text[]))
        and not exists (
            select
            from passport_ops.recovery_order as earlier
            where earlier.recovery_id = opened.recovery_id and earlier.order_key = known.order_key
        )
    order by known.order_key
    for update of known
),

noted as (
    insert into passport_ops.recovery_order (recovery_id, order_key, tag, from_state)
    select
        recovery_id,
        order_key,
        tag,
        state
    from forgotten
)

update passport_ops.reservation as known
set
    state = 'held',
    reason = 'recovery ' || forgotten.recovery_id || ': its link may have been issued after the backup'
    || coalesce('; before: ' || known.reason, ''),
    lease_until = null,
    fence = known.fence + 1,
    updated_at = clock_timestamp()
from forgotten
where known.order_key = forgotten.order_key
returning known.order_key, forgotten.state;
