-- Certificates that are live more than once: two orders', or an order's and a spare.
select
    certificate_id,
    array_agg(coalesce(order_key, '(a spare)') order by passport_id) as order_keys
from passport_ops.passport
where state in ('assigned', 'spare', 'claimed')
group by certificate_id
having count(*) > 1
order by certificate_id;
