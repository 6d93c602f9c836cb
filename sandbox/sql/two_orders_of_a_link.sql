-- Links that are live under more than one certificate.
select
    array_agg(certificate_id order by passport_id) as certificate_ids,
    array_agg(coalesce(order_key, '(a spare)') order by passport_id) as order_keys
from passport_ops.passport
where state in ('assigned', 'spare', 'claimed')
group by link_sha256
having count(distinct certificate_id) > 1
order by min(passport_id);
