-- A link that a reset had taken back was claimed after all, and nobody else has its certificate: the claim is the order's.
-- The next sync decides for an order that is being asked for, note_second_claim for one with a newer link. The passport
-- keeps the time when the reset ended it: from then until the claim, asking again for the order was right.
with one_per_order as (
    select distinct on (last_holder.order_key)
        last_holder.certificate_id,
        last_holder.passport_id,
        last_holder.order_key
    from pg_temp.last_holder
    inner join passport_ops.reservation as known on last_holder.order_key = known.order_key
    where known.passport_id is null and known.state <> 'calling'
    order by last_holder.order_key asc, last_holder.passport_id desc
),

claimed as (
    update passport_ops.passport as held
    set
        state = 'claimed',
        claimed_at = statement_timestamp(),
        end_reason = null
    from one_per_order as chosen
    where held.passport_id = chosen.passport_id
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
    reason = 'claimed after its link was taken back',
    passport_id = claimed.passport_id,
    claimed_at = statement_timestamp(),
    claim_uncertain = claimed.uncertain,
    fence = known.fence + 1,
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
from claimed
where known.order_key = claimed.order_key
returning known.claim_uncertain;
