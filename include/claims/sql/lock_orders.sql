-- The orders that a claim may move, locked by key, as every writer locks them.
select known.order_key
from passport_ops.reservation as known
where
    known.order_key in (
        select held.order_key
        from pg_temp.claimed_certificate as listed
        inner join passport_ops.passport as held on listed.certificate_id = held.certificate_id
        where
            held.state = 'assigned'
            or (held.state = 'ended' and held.end_reason = 'reset' and held.claimed_at is null)
    )
order by known.order_key
for update;
