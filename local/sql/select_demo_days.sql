-- The business days that an earlier call loaded, read from the order ids.
select distinct substring(order_id from '\d{4}-\d\d-\d\d')::date as business_day
from orders
where order_id like %(pattern)s
order by business_day
