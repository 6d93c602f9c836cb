-- The figures of some days, by campaign.
select
    business_day,
    campaign,
    orders,
    pending,
    calling,
    out_of_stock,
    unknown,
    held,
    reserved,
    claimed,
    reset,
    cancelled,
    closed,
    published,
    distributed,
    share_claimed
from passport.daily_funnel
where business_day = any(%(days)s)
order by business_day desc, campaign asc
