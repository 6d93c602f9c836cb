-- What shows that a day was read: a run planned it, or an order of it was first seen. The first one after its end closed it.
with evidence as (
    select
        first_day as business_day,
        planned_at as read_at,
        run_id
    from passport_ops.run
    union all
    select
        business_day,
        first_seen_at as read_at,
        coalesce(run_id, 'an earlier run') as run_id
    from passport_ops.reservation
),

seen as (
    select
        evidence.business_day,
        max(evidence.read_at) as read_at,
        min(evidence.read_at) filter (where evidence.read_at >= known.ends_at) as closed_at,
        (array_agg(evidence.run_id order by evidence.read_at) filter (where evidence.read_at >= known.ends_at))[1] as closed_by
    from evidence
    inner join passport_ops.day as known on evidence.business_day = known.business_day
    group by evidence.business_day
)

update passport_ops.day as known
set
    read_at = seen.read_at,
    closed_at = seen.closed_at,
    closed_by = seen.closed_by
from seen
where known.business_day = seen.business_day;

-- Days that were published are as they were, if they were read; the next load counts the others.
update passport.days as shown
set
    complete = shown.complete and coalesce(known.whole, false),
    state = case
        when not coalesce(known.whole, false) then 'unread'
        when shown.complete then 'complete'
        else 'lacking'
    end,
    unread_at = case when not coalesce(known.whole, false) then statement_timestamp() end
from passport.days as every
left join passport_ops.day as known on every.business_day = known.business_day
where shown.business_day = every.business_day;
