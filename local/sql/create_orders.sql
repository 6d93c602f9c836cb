-- The source table. Its columns are text, so that a bad value is reported and not refused.
create table if not exists orders (
    order_id text,
    customer_id text,
    product text,
    status text,
    ordered_at text,
    paid_at text
)
