-- Counts the run's own day (null: it has none), every day with a change, and every published day that lacked a link or
-- lacks one again. An order whose new link was refused lacks it, although the row of its former link is published as reset.
with days as (
    select own.business_day
    from (values (%(business_day)s::date)) as own (business_day)
    where own.business_day is not null
    union
    select known.business_day
    from passport_ops.reservation as known
    where known.order_key in (select noted.order_key from passport_ops.unpublished as noted)
    union
    select business_day
    from passport.days
    where not complete
    union
    select published.business_day
    from passport.days as published
    where exists (
        select
        from passport_ops.reservation as waiting
        where
            waiting.business_day = published.business_day
            and waiting.state in ('pending', 'calling', 'out_of_stock', 'unknown', 'held')
    )
),

of_states as (
    select
        known.business_day,
        known.state,
        count(*) as orders,
        count(*) filter (
            where
            (known.state = 'reset' and shown.order_key is not null)
            or (known.state in ('reserved', 'claimed') and shown.state in ('reserved', 'claimed'))
        ) as published
    from passport_ops.reservation as known
    left join passport.links as shown on known.order_key = shown.order_key
    where
        known.business_day in (select wanted.business_day from days as wanted)
        and known.state not in ('cancelled', 'closed')
    group by known.business_day, known.state
),

figures as (
    select
        days.business_day,
        coalesce(sum(of_states.orders), 0) as orders,
        coalesce(sum(of_states.published), 0) as published,
        coalesce(sum(of_states.orders - of_states.published), 0) as lacking,
        coalesce(
            jsonb_object_agg(of_states.state, of_states.orders - of_states.published)
            filter (where of_states.orders > of_states.published), '{}'
        ) as lacking_by_state
    from days
    left join of_states on days.business_day = of_states.business_day
    group by days.business_day
),

saved as (
    insert into passport.days as shown (
        business_day, complete, orders, published, lacking, lacking_by_state, published_at, updated_at, run_id
    )
    select
        business_day,
        lacking = 0 as complete,
        orders,
        published,
        lacking,
        lacking_by_state,
        statement_timestamp() as published_at,
        statement_timestamp() as updated_at,
        %(run_id)s::text as run_id
    from figures
    on conflict (business_day) do update
        set
            complete = excluded.complete,
            orders = excluded.orders,
            published = excluded.published,
            lacking = excluded.lacking,
            lacking_by_state = excluded.lacking_by_state,
            updated_at = excluded.updated_at,
            run_id = excluded.run_id
        where (shown.orders, shown.published, shown.lacking_by_state)
        is distinct from (excluded.orders, excluded.published, excluded.lacking_by_state)
    returning shown.business_day
)

select
    business_day,
    orders::integer as orders,
    published::integer as published,
    lacking::integer as lacking,
    lacking_by_state,
    lacking = 0 as complete
from figures
order by business_day;
