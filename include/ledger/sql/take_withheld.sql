-- Withheld passports whose links are accepted by now. One whose certificate or link is live is left out and decided again.
update passport_ops.passport as held
set
    state = decided.state,
    order_key = decided.order_key,
    read_at = clock_timestamp(),
    link = case when decided.state <> 'ended' then held.link end,
    ended_at = case when decided.state = 'ended' then clock_timestamp() end,
    end_reason = decided.end_reason
from
    unnest(%(attempt_ids)s::bigint[], %(states)s::text[], %(order_keys)s::text[], %(end_reasons)s::text[])
        as decided (attempt_id, state, order_key, end_reason)
inner join passport_ops.attempt as call on decided.attempt_id = call.attempt_id
where
    held.order_key = call.order_key
    and held.attempt_id = call.attempt_id
    and held.state = 'withheld'
    and (
        decided.state = 'ended'
        or not exists (
            select from passport_ops.passport as other
            where
                other.state in ('assigned', 'spare', 'claimed')
                and (other.certificate_id = held.certificate_id or other.link_sha256 = held.link_sha256)
        )
    )
returning held.attempt_id, held.passport_id;
