-- What is wrong among all that this load could have changed: one row per fault, with the number of orders and the first
-- of their keys. No link leaves the server.
with changed as (
    select
        known.order_key,
        held.certificate_id,
        held.kept_back,
        shown.certificate_id as shown_certificate_id,
        shown.link as shown_link,
        known.state as known_state,
        shown.state as shown_state,
        case when held.kept_back is not true then held.link end as link,
        coalesce(known.state in ('reserved', 'claimed'), false) as has_passport,
        coalesce(shown.state in ('reserved', 'claimed'), false) as is_live
    from passport_ops.reservation as known
    left join passport_ops.passport as held on known.passport_id = held.passport_id
    left join passport.links as shown on known.order_key = shown.order_key
    where known.order_key in (select noted.order_key from passport_ops.unpublished as noted)
),

faults as (
    select
        order_key,
        'live here, but not in the ledger' as fault
    from changed
    where is_live and not has_passport
    union all
    select
        order_key,
        'not published as the ledger has them' as fault
    from changed
    where
        has_passport
        and not order_key = any(%(refused)s::text[])
        and (certificate_id, link, known_state) is distinct from (shown_certificate_id, shown_link, shown_state)
    union all
    select
        order_key,
        'published with a link that is not well-formed' as fault
    from changed
    where
        is_live
        and not passport_ops.link_is_well_formed(shown_link, shown_certificate_id)
        and not (shown_link is null and (shown_state = 'claimed' or kept_back))
    union all
    select
        changed.order_key,
        'published with a certificate that is another order''s too' as fault
    from changed
    inner join passport.links as other
        on changed.shown_certificate_id = other.certificate_id and changed.order_key <> other.order_key
    where changed.is_live and other.state in ('reserved', 'claimed')
)

select
    fault,
    count(*) as orders,
    (array_agg(order_key order by order_key))[1:10] as order_keys
from faults
group by fault
order by fault;
