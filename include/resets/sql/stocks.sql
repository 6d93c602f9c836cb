-- What a reset would take back under each tag that has live, unclaimed links or is being reset; all tags, or those given.
-- A link is as old as its distribution, or else its reservation. The stale_after of a tag is the longest one of all its orders.
-- For an order it is the longer of what was stored with it and what the campaign file says now.
with listed as (
    select
        campaign,
        stale_after
    from unnest(%(campaigns)s::text[], %(stale_afters)s::interval[]) as filed (campaign, stale_after)
),

of_orders as (
    select
        known.tag,
        max(greatest(known.stale_after, listed.stale_after)) as stale_after
    from passport_ops.reservation as known
    left join listed on known.campaign = listed.campaign
    where %(tags)s::text[] is null or known.tag = any(%(tags)s::text[])
    group by known.tag
),

live as (
    select
        held.tag,
        known.order_key,
        known.campaign,
        greatest(known.stale_after, listed.stale_after) as stale_after,
        greatest(known.reserved_at, published.distributed_at) as since
    from passport_ops.passport as held
    inner join passport_ops.reservation as known on held.passport_id = known.passport_id
    left join listed on known.campaign = listed.campaign
    left join passport.links as published
        on known.order_key = published.order_key and held.certificate_id = published.certificate_id
    where
        known.state = 'reserved'
        and (%(tags)s::text[] is null or held.tag = any(%(tags)s::text[]))
),

-- An order may have moved to another tag since its link was received. Then the stale_after of both tags counts.
limits as (
    select
        live.tag,
        greatest(max(live.stale_after), max(of_orders.stale_after)) as stale_after
    from live
    left join of_orders on live.tag = of_orders.tag
    group by live.tag
),

links as (
    select
        live.tag,
        limits.stale_after,
        count(*) as live,
        count(*) filter (where live.since + limits.stale_after > statement_timestamp()) as younger,
        max(live.since) + limits.stale_after as free_at,
        (array_agg(live.order_key order by live.since desc, live.order_key asc))[1] as youngest_order_key,
        array_agg(distinct live.campaign) as campaigns
    from live
    inner join limits on live.tag = limits.tag
    group by live.tag, limits.stale_after
),

spares as (
    select
        tag,
        count(*) as spares
    from passport_ops.passport
    where state = 'spare'
    group by tag
)

select
    asked.tag,
    asked.state,
    asked.epoch,
    asked.claims_synced_at,
    links.stale_after,
    links.free_at,
    links.youngest_order_key,
    coalesce(links.live, 0) as live,
    coalesce(links.younger, 0) as younger,
    coalesce(links.campaigns, '{}') as campaigns,
    coalesce(spares.spares, 0) as spares,
    statement_timestamp() as asked_at
from passport_ops.tag as asked
left join links on asked.tag = links.tag
left join spares on asked.tag = spares.tag
where
    (%(tags)s::text[] is null or asked.tag = any(%(tags)s::text[]))
    and (links.live > 0 or asked.state = 'resetting')
order by asked.tag;
