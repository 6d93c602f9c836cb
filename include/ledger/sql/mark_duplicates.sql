-- Of several rows with one key the first by paid_at, then product, is the order; the others are not taken. A row without
-- a usable key or time is not taken for that reason, so it makes no other row a duplicate.
with ranked as (
    select
        row_number,
        row_number() over (
            partition by order_key
            order by paid_at, product collate "C" nulls last, row_number
        ) as place
    from pg_temp.incoming_order
    where order_key is not null and paid_at is not null
)

update pg_temp.incoming_order as later
set
    reason = 'duplicate_key',
    detail = 'an earlier row has the key ' || quote_literal(later.order_key) || ' too; give each order one row'
from ranked
where later.row_number = ranked.row_number and ranked.place > 1;
