-- A link that a reset had taken back was claimed although its order has a newer link: that customer now may have two.
with last_holder as (
    select distinct on (held.certificate_id)
        held.certificate_id,
        held.passport_id,
        held.order_key
    from pg_temp.claimed_certificate as listed
    inner join passport_ops.passport as held on listed.certificate_id = held.certificate_id
    where
        held.end_reason = 'reset'
        and held.order_key is not null
        and not exists (
            select from passport_ops.passport as other
            where
                other.certificate_id = held.certificate_id
                and (other.state in ('assigned', 'spare', 'claimed') or other.claimed_at is not null)
        )
    order by held.certificate_id asc, held.passport_id desc
),

second as (
    update passport_ops.passport as held
    set claimed_at = %(seen_at)s
    from last_holder
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
