-- How many of some orders are in which state, by campaign and business day, with the first keys of each.
select
    state,
    campaign,
    business_day,
    count(*) as orders,
    (array_agg(order_key order by order_key))[1:3] as first_keys
from passport_ops.reservation
where order_key = any(%(order_keys)s::text[])
group by state, campaign, business_day
order by business_day, campaign, state;
