-- The order with a key, or the orders with an order id; the other one is null. An id has a key for each item that was bought
-- and is not indexed, so ask for the key first.
select
    order_key,
    order_id,
    product,
    campaign,
    tag,
    business_day,
    certificate_id,
    state,
    reason,
    ordered_at,
    reserved_at,
    published_at,
    distributed_at,
    claimed_at,
    reset_at,
    updated_at,
    run_id
from passport.link_status
where order_key = %(order_key)s::text or order_id = %(order_id)s::text
order by order_key
limit %(rows)s
