-- The rows that are not taken, each by what finds it in the shop: its order id or else its place among the rows without one
-- that were paid at the same moment, and when it was paid. So it is found again whatever other days are read with it. An
-- order id is cut, because the index of passport_ops.rejected_row takes at most 2704 bytes.
create temporary table incoming_rejected as
select
    row_number,
    coalesce(
        'order_id ' || left(order_id, 500),
        'row ' || row_number() over (partition by order_id, paid_at order by row_number) || ' without an order_id'
    )
    || coalesce(', paid at ' || to_char(paid_at, 'YYYY-MM-DD"T"HH24:MI:SS'), '')
    || case when paid_at <> date_trunc('second', paid_at) then to_char(paid_at, '.US') else '' end
    || case when paid_at is null then '' else '+00:00' end as row_key,
    reason,
    order_key,
    business_day,
    detail
from pg_temp.incoming_order
where reason is not null;
