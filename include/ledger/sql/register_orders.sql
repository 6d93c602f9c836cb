-- New keys become pending; a key that still waits follows its campaign; one that was cancelled and is back waits again.
-- A key that has, or had, a link is left alone.
insert into passport_ops.reservation as known (
    order_key, order_id, customer_ref, product, campaign, tag, business_day, ordered_at, paid_at, on_unknown,
    stale_after, carry_until, run_id
)
select
    order_key,
    coalesce(order_id, order_key),
    customer_ref,
    product,
    campaign,
    tag,
    business_day,
    ordered_at,
    paid_at,
    on_unknown,
    stale_after,
    carry_until,
    %(run_id)s
from pg_temp.incoming_order
where reason is null and order_key between %(first_key)s and %(last_key)s
order by order_key
on conflict (order_key) do update set
    campaign = excluded.campaign,
    tag = excluded.tag,
    product = excluded.product,
    business_day = excluded.business_day,
    ordered_at = excluded.ordered_at,
    paid_at = excluded.paid_at,
    on_unknown = excluded.on_unknown,
    stale_after = excluded.stale_after,
    carry_until = excluded.carry_until,
    state = case known.state when 'cancelled' then 'pending' else known.state end,
    reason = case known.state when 'cancelled' then null else known.reason end,
    updated_at = clock_timestamp()
where known.state in ('pending', 'out_of_stock', 'cancelled')
and (
    known.state = 'cancelled'
    or (
        known.campaign, known.tag, known.product, known.business_day, known.paid_at, known.on_unknown,
        known.stale_after, known.carry_until
    ) is distinct from (
        excluded.campaign, excluded.tag, excluded.product, excluded.business_day, excluded.paid_at,
        excluded.on_unknown, excluded.stale_after, excluded.carry_until
    )
);
