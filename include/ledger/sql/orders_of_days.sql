-- The state of the orders of some business days.
select
    order_key,
    state,
    reason
from passport_ops.reservation
where
    business_day = any(%(days)s::date[])
    and (%(campaigns)s::text[] is null or campaign = any(%(campaigns)s::text[]))
order by order_key;
