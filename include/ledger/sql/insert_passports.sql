-- Passports received. A certificate that somebody else made live in the meantime is left out and decided again.
insert into passport_ops.passport (
    certificate_id, link, link_sha256, tag, epoch, state, order_key, attempt_id, received_at, ended_at, end_reason
)
select
    arrived.certificate_id,
    case when decided.state <> 'ended' then arrived.link end,
    passport_ops.link_sha256(arrived.link),
    call.tag,
    call.epoch,
    decided.state,
    decided.order_key,
    call.attempt_id,
    clock_timestamp(),
    case when decided.state = 'ended' then clock_timestamp() end,
    decided.end_reason
from
    unnest(%(attempt_ids)s::bigint[], %(states)s::text[], %(order_keys)s::text[], %(end_reasons)s::text[])
        as decided (attempt_id, state, order_key, end_reason)
inner join pg_temp.incoming_link as arrived on decided.attempt_id = arrived.attempt_id
inner join passport_ops.attempt as call on decided.attempt_id = call.attempt_id
order by arrived.certificate_id
on conflict do nothing
returning attempt_id, passport_id;
