-- A link that a reset had taken back was claimed, and its order has a newer link: this customer may have two now.
with second as (
    update passport_ops.passport as held
    set claimed_at = %(seen_at)s
    from pg_temp.last_holder
    inner join passport_ops.reservation as newer on last_holder.order_key = newer.order_key
    where
        held.passport_id = last_holder.passport_id
        and newer.passport_id is not null
    returning held.order_key, held.certificate_id
)

update passport_ops.reservation as known
set
    reason = format('an earlier link of this order, certificate %%s, was claimed after it was taken back', second.certificate_id),
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
from second
where known.order_key = second.order_key;
