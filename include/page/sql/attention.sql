-- The newest of each kind, and how many there are. A day or a campaign hides what is about other days and orders. What is
-- about no day and no order, like a tag, is always shown.
with hidden as not materialized (
    select order_key
    from passport.link_status
    where business_day <> %(day)s::date or campaign <> %(campaign)s::text
),

shown as (
    select
        attention.*,
        count(*) over (partition by attention.kind) as of_kind,
        max(attention.since) over (partition by attention.kind) as newest_of_kind,
        row_number() over (partition by attention.kind order by attention.since desc nulls last, attention.order_key asc) as place
    from passport.needs_attention as attention
    where
        coalesce(attention.business_day = %(day)s::date, true)
        and not exists (
            select from hidden
            where hidden.order_key = attention.order_key
        )
)

select
    kind,
    order_key,
    tag,
    row_key,
    run_id,
    since,
    reason,
    what_to_do,
    of_kind
from shown
where place <= %(rows)s
-- Rows that were not taken come last: there may be many on every day.
order by kind = 'rejected', newest_of_kind desc nulls last, kind asc, place asc
