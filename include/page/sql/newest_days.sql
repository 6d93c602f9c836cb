-- The newest business days: one index search for each, however many orders a day has.
with recursive wanted as not materialized (
    select business_day
    from passport.link_status
    where %(campaign)s::text is null or campaign = %(campaign)s::text
),

with_orders as (
    (
        select
            business_day,
            1 as place
        from wanted
        where %(before)s::date is null or business_day < %(before)s::date
        order by business_day desc
        limit 1
    )
    union all
    select
        (
            select earlier.business_day
            from wanted as earlier
            where earlier.business_day < with_orders.business_day
            order by earlier.business_day desc
            limit 1
        ) as business_day,
        place + 1 as place
    from with_orders
    where business_day is not null and place < %(rows)s
),

-- A day without orders may be published, too.
published as (
    select business_day
    from passport.days
    where
        %(campaign)s::text is null
        and (%(before)s::date is null or business_day < %(before)s::date)
    order by business_day desc
    limit %(rows)s
)

select business_day
from with_orders
where business_day is not null
union distinct
select business_day
from published
order by business_day desc
limit %(rows)s
