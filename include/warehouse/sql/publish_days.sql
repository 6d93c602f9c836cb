-- Counts the days that the run closes, every day of the calendar that is not published yet, every day with a change, and every
-- published day that was not complete or lacks a link again. An order whose new link was refused lacks it, although the
-- row of its former link is published as reset. A day that was not read since its end is never complete, whatever it counts.
with days as (
    select own.business_day
    from unnest(%(closes)s::date[]) as own (business_day)
    union
    select calendar.business_day
    from passport_ops.day as calendar
    where
        not exists (
            select from passport.days as published
            where published.business_day = calendar.business_day
        )
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

judged as (
    select
        figures.*,
        case
            when calendar.whole and figures.lacking = 0 then 'complete'
            when calendar.whole then 'lacking'
            when calendar.ends_at > statement_timestamp() then 'open'
            -- The run that closes it may just be reading it, while an earlier one loads.
            when
                calendar.ends_at > statement_timestamp() - interval '1 hour'
                and figures.business_day <> all(%(closes)s::date[])
                and not exists (
                    select from passport_ops.day as later
                    where later.scheduled and later.business_day > calendar.business_day
                )
                then 'open'
            else 'unread'
        end as state
    from figures
    left join passport_ops.day as calendar on figures.business_day = calendar.business_day
),

saved as (
    insert into passport.days as shown (
        business_day, complete, orders, published, lacking, lacking_by_state, published_at, updated_at, run_id, state, unread_at
    )
    select
        business_day,
        state = 'complete' as complete,
        orders,
        published,
        lacking,
        lacking_by_state,
        statement_timestamp() as published_at,
        statement_timestamp() as updated_at,
        %(run_id)s::text as run_id,
        state,
        case state when 'unread' then statement_timestamp() end as unread_at
    from judged
    on conflict (business_day) do update
        set
            complete = excluded.complete,
            orders = excluded.orders,
            published = excluded.published,
            lacking = excluded.lacking,
            lacking_by_state = excluded.lacking_by_state,
            updated_at = excluded.updated_at,
            run_id = excluded.run_id,
            state = excluded.state,
            unread_at = coalesce(shown.unread_at, excluded.unread_at)
        where (shown.state, shown.orders, shown.published, shown.lacking_by_state)
        is distinct from (excluded.state, excluded.orders, excluded.published, excluded.lacking_by_state)
    returning shown.business_day
)

select
    judged.business_day,
    judged.state,
    judged.orders::integer as orders,
    judged.published::integer as published,
    judged.lacking::integer as lacking,
    judged.lacking_by_state,
    saved.business_day is not null as changed
from judged
left join saved on judged.business_day = saved.business_day
order by judged.business_day;
