-- Passports of calls whose intent the ledger lost. They were handed to nobody, and nobody knows whether a reset that was
-- lost too gave them to somebody else: so they end at once. Kept twice is kept once.
insert into passport_ops.passport (
    certificate_id, link_sha256, tag, epoch, state, order_key, received_at, ended_at, end_reason
)
select
    arrived.certificate_id,
    passport_ops.link_sha256(arrived.link),
    call.tag,
    tag.epoch,
    'ended',
    call.order_key,
    clock_timestamp(),
    clock_timestamp(),
    'no_intent'
from unnest(%(attempt_ids)s::bigint[], %(order_keys)s::text[], %(tags)s::text[]) as call (attempt_id, order_key, tag)
inner join pg_temp.incoming_link as arrived on call.attempt_id = arrived.attempt_id
left join passport_ops.tag as tag on call.tag = tag.tag
where
    not exists (
        select
        from passport_ops.passport as earlier
        where
            earlier.certificate_id = arrived.certificate_id
            and earlier.link_sha256 = passport_ops.link_sha256(arrived.link)
            and earlier.end_reason = 'no_intent'
    );
