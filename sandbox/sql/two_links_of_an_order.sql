-- Orders with more than one live link.
select
    order_key,
    array_agg(certificate_id order by passport_id) as certificate_ids
from passport_ops.passport
where state in ('assigned', 'claimed')
group by order_key
having count(*) > 1
order by order_key;
