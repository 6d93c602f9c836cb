-- What is wrong with rows of hand-overs: each by its place and order key, never with a link. The same row twice is one.
with given as (
    select
        order_key,
        certificate_id,
        min(place) as place,
        passport_ops.link_sha256(link) as link_sha256,
        passport_ops.link_is_well_formed(link, certificate_id) as is_well_formed
    from pg_temp.incoming_hand_over
    group by order_key, certificate_id, link
),

compared as (
    select
        given.place,
        given.order_key,
        given.is_well_formed,
        known.state,
        own.certificate_id is not null as has_another,
        count(*) over (partition by given.order_key) as of_order,
        count(*) over (partition by given.certificate_id) as of_certificate,
        (
            select min(coalesce(live.order_key, '(none)'))
            from passport_ops.passport as live
            where
                live.state in ('assigned', 'spare', 'claimed')
                and live.order_key is distinct from given.order_key
                and (live.certificate_id = given.certificate_id or live.link_sha256 = given.link_sha256)
        ) as holder
    from given
    left join passport_ops.reservation as known on given.order_key = known.order_key
    left join passport_ops.passport as own
        on
            known.passport_id = own.passport_id
            and (own.certificate_id, own.link_sha256) is distinct from (given.certificate_id, given.link_sha256)
),

judged as (
    select
        place,
        order_key,
        case
            when order_key is null then 'it has no order key'
            when not is_well_formed then 'its link is no link to its certificate'
            when of_order > 1 then 'the files have two links for this order: keep the one that was sent last'
            when of_certificate > 1 then 'the files give its certificate to two orders: keep the one that was sent last'
            when has_another
                then 'the ledger has another link for it: if its tag was reset since the backup, name the tag in RESET_TAGS first'
            when holder is not null
                then
                    'the ledger has its certificate for order ' || holder
                    || ': if its tag was reset since the backup, name the tag in RESET_TAGS first'
            when state in ('reset', 'closed') then 'the ledger has it as ' || state || ', so it gets no link: ask its customer'
        end as fault
    from compared
)

select
    place,
    order_key,
    fault
from judged
where fault is not null
order by place;
