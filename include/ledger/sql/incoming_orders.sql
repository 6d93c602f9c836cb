-- Where an extraction's orders are copied to before they are merged; gone with the transaction.
create temporary table incoming_order (
    order_key text,
    order_id text,
    customer_ref text,
    product text,
    campaign text,
    tag text,
    business_day date,
    ordered_at timestamptz,
    paid_at timestamptz,
    on_unknown text,
    stale_after interval,
    carry_until date
) on commit drop;
