-- A link that is out was claimed. If another order lost the same certificate to a reset, the claim may be that order's: it is
-- uncertain.
with claimed as (
    update passport_ops.passport as held
    set
        state = 'claimed',
        claimed_at = statement_timestamp()
    from pg_temp.claimed_certificate as listed
    where
        held.certificate_id = listed.certificate_id
        and held.state = 'assigned'
    returning
        held.passport_id,
        held.order_key,
        exists (
            select from passport_ops.passport as earlier
            where
                earlier.certificate_id = held.certificate_id
                and earlier.end_reason = 'reset'
                and earlier.order_key <> held.order_key
        ) as uncertain
)

update passport_ops.reservation as known
set
    state = 'claimed',
    reason = null,
    claimed_at = statement_timestamp(),
    claim_uncertain = claimed.uncertain,
    fence = known.fence + 1,
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
from claimed
where known.passport_id = claimed.passport_id
returning known.claim_uncertain;
