-- Intents for an order that had a link at that time. An order has a link from its answer on (a withheld one from when it was
-- accepted), or, if it got a spare, from its reservation on. It loses the link when that ends, and has it again if it is
-- claimed after a reset.
with links as (
    select
        held.order_key,
        held.certificate_id,
        held.ended_at as had_until,
        case
            when call.order_key = held.order_key and call.outcome = 'reserved' then coalesce(held.read_at, held.received_at)
            when known.passport_id = held.passport_id then known.reserved_at
        end as had_from,
        case when known.passport_id = held.passport_id then held.claimed_at end as claimed_at
    from passport_ops.passport as held
    inner join passport_ops.reservation as known on held.order_key = known.order_key
    left join passport_ops.attempt as call on held.attempt_id = call.attempt_id
    where held.state in ('assigned', 'claimed') or held.end_reason = 'reset'
)

select
    later.order_key,
    links.certificate_id,
    later.attempt_id,
    links.had_from,
    later.intended_at
from links
inner join passport_ops.attempt as later on links.order_key = later.order_key
where
    (later.intended_at > links.had_from and later.intended_at < coalesce(links.had_until, 'infinity'))
    or (later.intended_at > links.claimed_at)
order by later.order_key, later.attempt_id;
