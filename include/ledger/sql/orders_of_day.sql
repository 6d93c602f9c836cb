-- The state of the orders of a business day.
select
    order_key,
    state,
    reason
from passport_ops.reservation
where
    business_day = %(business_day)s
    and (%(campaigns)s::text[] is null or campaign = any(%(campaigns)s::text[]))
order by order_key;
