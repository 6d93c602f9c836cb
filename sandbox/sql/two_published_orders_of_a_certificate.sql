-- Certificates that two published orders share.
select
    certificate_id,
    array_agg(order_key order by order_key) as order_keys
from passport.links
where state in ('reserved', 'claimed')
group by certificate_id
having count(*) > 1
order by certificate_id;
