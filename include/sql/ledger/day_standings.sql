-- Where the orders of a business day stand.
select
    order_key,
    state,
    reason
from passport_ops.reservation
where business_day = %(business_day)s
order by order_key;
