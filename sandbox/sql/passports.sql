-- Every passport received, with the times of its intent and of its commit as epoch seconds; never its link.
select
    held.passport_id,
    held.certificate_id,
    held.tag,
    held.state,
    held.order_key,
    encode(held.link_sha256, 'hex') as link_sha256,
    extract(epoch from call.intended_at)::double precision as intended_at,
    extract(epoch from held.received_at)::double precision as received_at
from passport_ops.passport as held
left join passport_ops.attempt as call on held.attempt_id = call.attempt_id
order by held.received_at, held.passport_id;
