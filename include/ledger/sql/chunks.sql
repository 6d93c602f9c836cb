-- The first and the last key of each chunk of the orders that are taken.
with numbered as (
    select
        order_key,
        (row_number() over (order by order_key) - 1) / %(orders)s as chunk
    from pg_temp.incoming_order
    where reason is null
)

select
    min(order_key) as first_key,
    max(order_key) as last_key
from numbered
group by chunk
order by chunk;
