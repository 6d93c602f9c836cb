-- The orders of some business days: the one file to edit for a shop's own tables. It is one select, read through a
-- cursor. It must return order_key, order_id, customer_ref, product, ordered_at and paid_at; other columns are ignored.
--
-- * One passport is given per order_key. Here it is the order's id. A shop that gives one passport per item returns one
--   row per item, with a key of its own (the order's id and a line number).
-- * A row whose paid_at cannot be read is returned with a null paid_at, so that it is reported by its key and the query
--   does not fail. An order without any paid_at is not paid and not returned.
-- * Bound by name: starts and ends (timestamptz[], the first instant of each day and the first after it), statuses
--   (text[], the allowed ones) and timezone (text, the shop's). Double any other percent sign.
-- * Times without an offset are the shop's: the session's TimeZone is the shop's while this runs.
--
-- It takes text, timestamp and timestamptz columns, needs PostgreSQL 16 and reads the whole table. Where paid_at is a
-- timestamptz, drop the two with-queries and let an index on paid_at work:
--     from orders
--     inner join business_days on orders.paid_at >= business_days.starts_at and orders.paid_at < business_days.ends_at
--     where orders.status = any(...)
with payments as (
    select
        status::text as status,
        nullif(btrim(order_id::text), '') as order_id,
        nullif(btrim(customer_id::text), '') as customer_ref,
        nullif(btrim(product::text), '') as product,
        nullif(btrim(ordered_at::text), '') as ordered_text,
        nullif(btrim(paid_at::text), '') as paid_text
    from orders
),

-- Only ISO 8601 is read. PostgreSQL would also read 'infinity', 'now' and 03/04/2026, and might guess wrong.
iso_payments as (
    select
        order_id,
        customer_ref,
        product,
        status,
        case
            when
                ordered_text ~* '^[12]\d{3}-\d\d-\d\d([t ]\d\d:\d\d[\d:.]*( ?(z|utc|[+-][\d:]+))?)?$'
                and pg_input_is_valid(ordered_text, 'timestamptz')
                then ordered_text::timestamptz
        end as ordered_at,
        case
            when
                paid_text ~* '^[12]\d{3}-\d\d-\d\d([t ]\d\d:\d\d[\d:.]*( ?(z|utc|[+-][\d:]+))?)?$'
                and pg_input_is_valid(paid_text, 'timestamptz')
                then paid_text::timestamptz
        end as paid_at
    from payments
    where paid_text is not null
),

business_days as (
    select
        starts_at,
        ends_at
    from unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) as bounds (starts_at, ends_at)
)

select
    order_id as order_key,
    order_id,
    customer_ref,
    product,
    ordered_at,
    paid_at
from iso_payments
where
    status = any(%(statuses)s::text[])
    and (
        paid_at is null
        or exists (
            select 1
            from business_days
            where iso_payments.paid_at >= business_days.starts_at and iso_payments.paid_at < business_days.ends_at
        )
    )
order by paid_at asc nulls last, product collate "C" asc nulls last, order_id collate "C" asc nulls last, customer_ref asc
