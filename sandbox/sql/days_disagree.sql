-- Published days that do not count the orders that are published, although none of their changes waits for its first load;
-- and those that say to be complete, although they lack a link or were not read since their end.
with by_day as (
    select
        known.business_day,
        count(*) filter (
            where
            (known.state = 'reset' and shown.order_key is not null)
            or (known.state in ('reserved', 'claimed') and shown.state in ('reserved', 'claimed'))
        ) as published,
        bool_or(
            exists (
                select from passport_ops.unpublished as noted
                where noted.order_key = known.order_key and noted.refused is null
            )
        ) as waits
    from passport_ops.reservation as known
    left join passport.links as shown on known.order_key = shown.order_key
    group by known.business_day
)

select
    day.business_day,
    day.complete,
    day.orders,
    day.published as counted,
    coalesce(by_day.published, 0) as published
from passport.days as day
left join by_day on day.business_day = by_day.business_day
left join passport_ops.day as calendar on day.business_day = calendar.business_day
where
    by_day.waits is not true
    and (
        day.published <> coalesce(by_day.published, 0)
        or day.complete <> (day.orders = day.published and coalesce(calendar.whole, false))
        or day.lacking <> day.orders - day.published
    )
order by day.business_day;
