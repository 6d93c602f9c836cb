-- The source table as a landing table: text as it came, so that a bad value is reported instead of refused.
create table if not exists orders (
    order_id text,
    customer_id text,
    product text,
    status text,
    ordered_at text,
    paid_at text
)
