-- Removes links that are not their order's any more, before any link is published: a passport that was reset may already
-- be another order's. Counts the orders that get no other link now.
with retired as (
    update passport.links as shown
    set
        state = 'reset',
        link = null,
        reset_at = coalesce(known.reset_at, statement_timestamp()),
        updated_at = statement_timestamp(),
        run_id = %(run_id)s
    from passport_ops.reservation as known
    left join passport_ops.passport as held on known.passport_id = held.passport_id
    where
        known.order_key in (select noted.order_key from passport_ops.unpublished as noted)
        and known.order_key = shown.order_key
        and shown.state in ('reserved', 'claimed')
        and (
            known.state not in ('reserved', 'claimed')
            or (held.certificate_id, known.reserved_at) is distinct from (shown.certificate_id, shown.reserved_at)
        )
    returning
        known.state in ('reserved', 'claimed')
        and passport_ops.link_is_well_formed(held.link, held.certificate_id) as gets_another
)

select count(*) filter (where not gets_another) as retired
from retired;
