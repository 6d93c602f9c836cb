-- Certificates that the NMP listed as claimed before their orders got them, from an answer or as a spare. Their links do not
-- work, so their orders are held for a person. An earlier holder claimed, or somebody whom the ledger does not know.
with claimed_before as (
    update passport_ops.passport as held
    set
        state = 'ended',
        link = null,
        ended_at = clock_timestamp(),
        end_reason = 'claimed_before'
    from pg_temp.claimed_certificate as listed
    where
        held.certificate_id = listed.certificate_id
        and held.state = 'assigned'
        and (
            held.received_at > %(seen_at)s
            or exists (
                select from passport_ops.reservation as served
                where served.passport_id = held.passport_id and served.reserved_at > %(seen_at)s
            )
        )
    returning held.passport_id, held.certificate_id
)

update passport_ops.reservation as known
set
    state = 'held',
    reason = format(
        'its certificate %%s was claimed by somebody else before it was handed out: release it for a new link',
        claimed_before.certificate_id
    ),
    passport_id = null,
    fence = known.fence + 1,
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
from claimed_before
where known.passport_id = claimed_before.passport_id;
