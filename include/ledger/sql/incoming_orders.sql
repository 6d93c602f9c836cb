-- Where the rows of an extraction are copied to before they are merged: the fields of CheckedOrder, in their order.
create temporary table incoming_order (
    row_number integer,
    order_key text,
    order_id text,
    customer_ref text,
    product text,
    ordered_at timestamptz,
    paid_at timestamptz,
    business_day date,
    campaign text,
    tag text,
    on_unknown text,
    stale_after interval,
    carry_until date,
    reason text,
    detail text
);
