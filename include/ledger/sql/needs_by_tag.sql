-- What a run would ask for, per tag, if the rows that were read were registered: new orders, those that wait and are
-- returned, and those that wait and that a scheduled run carries over. See register_orders, cancel_missing, save_days_read
-- and assign_run_orders, which do it.
with closing as (
    select read.business_day
    from unnest(%(days_read)s::date[], %(ends_at)s::timestamptz[]) as read (business_day, ends_at)
    left join passport_ops.day as known on read.business_day = known.business_day
    where known.closed_at is null and read.ends_at <= clock_timestamp()
),

returned as (
    select
        incoming.order_key,
        case when kept.state in ('calling', 'unknown') then kept.campaign else incoming.campaign end as campaign,
        case when kept.state in ('calling', 'unknown') then kept.tag else incoming.tag end as tag,
        case when kept.state in ('calling', 'unknown') then kept.business_day else incoming.business_day end as business_day,
        case when kept.state in ('calling', 'unknown') then kept.carry_until else incoming.carry_until end as carry_until
    from pg_temp.incoming_order as incoming
    left join passport_ops.reservation as kept on incoming.order_key = kept.order_key
    where
        incoming.reason is null
        and (kept.state is null or kept.state = 'cancelled' or kept.state = any(%(asked_by_runs)s::text[]))
),

waiting as (
    select
        order_key,
        campaign,
        tag,
        business_day,
        carry_until
    from returned
    union all
    select
        kept.order_key,
        kept.campaign,
        kept.tag,
        kept.business_day,
        kept.carry_until
    from passport_ops.reservation as kept
    where
        kept.state = any(%(asked_by_runs)s::text[])
        and not exists (
            select from returned
            where returned.order_key = kept.order_key
        )
        -- One that is no longer returned at all would be cancelled.
        and (
            not kept.business_day = any(%(days_read)s::date[])
            or kept.lease_until > clock_timestamp()
            or exists (
                select from pg_temp.incoming_order as rejected
                where rejected.order_key = kept.order_key
            )
        )
),

wanted as (
    select
        tag,
        count(*) as orders,
        min(campaign) as campaign
    from waiting
    where
        (%(campaigns)s::text[] is null or campaign = any(%(campaigns)s::text[]))
        and (
            business_day = any(%(days)s::date[])
            or business_day in (
                select closing.business_day
                from closing
            )
            or (
                %(scheduled)s
                and business_day < %(first_day)s
                and (carry_until is null or carry_until >= %(first_day)s)
            )
        )
    group by tag
)

select
    wanted.tag,
    wanted.campaign,
    wanted.orders,
    stock.remaining,
    stock.tag is not null as is_known
from wanted
left join passport.tag_stock as stock on wanted.tag = stock.tag
order by wanted.tag;
