-- Orders whose passport has no well-formed link, so they cannot be published.
select known.order_key
from passport_ops.reservation as known
inner join passport_ops.passport as held on known.passport_id = held.passport_id
where
    known.order_key in (select noted.order_key from passport_ops.unpublished as noted)
    and known.state in ('reserved', 'claimed')
    and held.kept_back is not true
    and not passport_ops.link_is_well_formed(held.link, held.certificate_id)
    and not (known.state = 'claimed' and held.link is null)
order by known.order_key;
