-- For the demo: a day's links as if they had been reserved when their orders were paid.
with aged as (
    update passport_ops.reservation
    set reserved_at = paid_at
    where business_day = %(day)s and state = 'reserved'
    returning order_key, reserved_at
)

update passport.links as published
set reserved_at = aged.reserved_at
from aged
where published.order_key = aged.order_key
