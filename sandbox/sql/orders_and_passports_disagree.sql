-- Orders without the passport that their state requires, and passports of an order that does not have them.
with owned as (
    select
        passport_id,
        certificate_id,
        order_key,
        state
    from passport_ops.passport
    where state in ('assigned', 'claimed')
)

select
    held.certificate_id,
    coalesce(known.order_key, held.order_key) as order_key,
    coalesce(known.state, '(no such order)') as order_state,
    coalesce(held.state, '(no such passport)') as passport_state
from passport_ops.reservation as known
full outer join owned as held on known.passport_id = held.passport_id
where
    (known.order_key is null or known.passport_id is not null or known.state in ('reserved', 'claimed'))
    and (
        known.order_key is distinct from held.order_key
        or not coalesce((known.state, held.state) in (('reserved', 'assigned'), ('claimed', 'claimed')), false)
    )
order by coalesce(known.order_key, held.order_key);
