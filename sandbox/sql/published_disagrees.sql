-- Published rows that differ from the ledger, although no change waits to be loaded; the server compares the links.
select
    held.certificate_id as ledger_certificate_id,
    shown.certificate_id as published_certificate_id,
    coalesce(known.order_key, shown.order_key) as order_key,
    coalesce(known.state, '(no such order)') as ledger_state,
    coalesce(shown.state, '(not published)') as published_state
from passport_ops.reservation as known
full outer join passport.links as shown on known.order_key = shown.order_key
left join passport_ops.passport as held on known.passport_id = held.passport_id
where
    not exists (
        select from passport_ops.unpublished as noted
        where noted.order_key = coalesce(known.order_key, shown.order_key)
    )
    and case
        when known.state in ('reserved', 'claimed')
            then
                (known.state, held.certificate_id, held.link)
                is distinct from (shown.state, shown.certificate_id, shown.link)
        else shown.state in ('reserved', 'claimed') or shown.link is not null
    end
order by coalesce(known.order_key, shown.order_key);
