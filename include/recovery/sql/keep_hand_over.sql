-- Rows without a fault wait for their order; most find it at once. A link that the ledger has already was handed over.
with good as (
    select distinct
        order_key,
        certificate_id,
        link
    from pg_temp.incoming_hand_over
    where not order_key = any(%(faulty)s::text[])
),

known as (
    select held.order_key
    from good
    inner join passport_ops.passport as held
        on good.order_key = held.order_key and good.certificate_id = held.certificate_id
    where held.state in ('assigned', 'claimed')
),

sent as (
    update passport.links as shown
    set distributed_at = statement_timestamp()
    from known
    where shown.order_key = known.order_key and shown.distributed_at is null
)

insert into passport_ops.adopted_link (order_key, certificate_id, link)
select
    order_key,
    certificate_id,
    link
from good
where not order_key = any(select order_key from known)
order by order_key
on conflict (order_key) do update set
    certificate_id = excluded.certificate_id,
    link = excluded.link,
    given_at = clock_timestamp();
