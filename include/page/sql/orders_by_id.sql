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
where order_id = %(wanted)s
order by order_key
limit %(rows)s
