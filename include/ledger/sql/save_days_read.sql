-- An extraction of these days is registered. The newest reading is kept, and the first one after the end of the day, which
-- closes it: a closed day stays closed.
insert into passport_ops.day as known (business_day, begins_at, ends_at, read_at, closed_at, closed_by)
select
    newly.business_day,
    newly.begins_at,
    newly.ends_at,
    began.read_at,
    case when began.read_at >= newly.ends_at then began.read_at end as closed_at,
    case when began.read_at >= newly.ends_at then %(run_id)s::text end as closed_by
from
    unnest(%(days)s::date[], %(begins_at)s::timestamptz[], %(ends_at)s::timestamptz[])
        as newly (
            business_day, begins_at, ends_at
        )
cross join (values (coalesce(%(began_at)s::timestamptz, clock_timestamp()))) as began (read_at)
order by newly.business_day
on conflict (business_day) do update set
    read_at = greatest(known.read_at, excluded.read_at),
    closed_at = coalesce(known.closed_at, case when excluded.read_at >= known.ends_at then excluded.read_at end),
    closed_by = coalesce(known.closed_by, case when excluded.read_at >= known.ends_at then %(run_id)s::text end);
