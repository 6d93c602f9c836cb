-- Publishes every order that has a link and is new here or has changed. The link goes from table to table in the server, so
-- no statement and no log has it. Two kinds of orders are published without a link: one whose passport was claimed after a
-- reset, and one that lost its link before any load could publish it.
with published as (
    insert into passport.links as shown (
        order_key, order_id, customer_ref, product, campaign, tag, business_day, certificate_id, link, state,
        ordered_at, reserved_at, claimed_at, reset_at, distributed_at, published_at, updated_at, run_id
    )
    select
        known.order_key,
        known.order_id,
        known.customer_ref,
        known.product,
        known.campaign,
        known.tag,
        known.business_day,
        held.certificate_id,
        case when held.kept_back is not true then held.link end as link,
        known.state,
        known.ordered_at,
        known.reserved_at,
        known.claimed_at,
        known.reset_at,
        held.handed_over_at,
        statement_timestamp() as published_at,
        statement_timestamp() as updated_at,
        %(run_id)s::text as run_id -- noqa: RF02
    from passport_ops.reservation as known
    left join passport_ops.passport as held on known.passport_id = held.passport_id
    where
        known.order_key in (select noted.order_key from passport_ops.unpublished as noted)
        and (
            (
                known.state in ('reserved', 'claimed')
                and (
                    passport_ops.link_is_well_formed(held.link, held.certificate_id)
                    or held.kept_back
                    or (known.state = 'claimed' and held.link is null)
                )
            )
            or (
                known.state = 'reset'
                and not exists (
                    select from passport.links as earlier
                    where earlier.order_key = known.order_key
                )
            )
        )
    order by known.order_key
    on conflict (order_key) do update
        set
            order_id = excluded.order_id,
            customer_ref = excluded.customer_ref,
            product = excluded.product,
            campaign = excluded.campaign,
            tag = excluded.tag,
            business_day = excluded.business_day,
            certificate_id = excluded.certificate_id,
            link = excluded.link,
            state = excluded.state,
            ordered_at = excluded.ordered_at,
            reserved_at = excluded.reserved_at,
            claimed_at = excluded.claimed_at,
            reset_at = excluded.reset_at,
            -- A new link has not been sent to anybody.
            distributed_at = case
                when (shown.certificate_id, shown.reserved_at) is not distinct from (excluded.certificate_id, excluded.reserved_at)
                    then shown.distributed_at
                else excluded.distributed_at
            end,
            published_at = case
                when (shown.certificate_id, shown.reserved_at) is not distinct from (excluded.certificate_id, excluded.reserved_at)
                    then shown.published_at
                else excluded.published_at
            end,
            updated_at = excluded.updated_at,
            run_id = excluded.run_id
        where (
            shown.order_id, shown.customer_ref, shown.product, shown.campaign, shown.tag, shown.business_day,
            shown.certificate_id, shown.link, shown.state, shown.ordered_at, shown.reserved_at, shown.claimed_at, shown.reset_at
        ) is distinct from (
            excluded.order_id, excluded.customer_ref, excluded.product, excluded.campaign, excluded.tag, excluded.business_day,
            excluded.certificate_id, excluded.link, excluded.state, excluded.ordered_at, excluded.reserved_at,
            excluded.claimed_at, excluded.reset_at
        )
    returning shown.xmax = 0 as is_new
)

select
    count(*) filter (where is_new) as published_now,
    count(*) filter (where not is_new) as updated
from published;
