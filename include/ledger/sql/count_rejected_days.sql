-- How many rows of each day and reason are not taken now, for these days and the days of the rows of this reading.
with read as (
    select coalesce(day, '-infinity') as day
    from unnest(%(days)s::date[] || null::date) as named (day)
    union
    select business_day
    from pg_temp.incoming_rejected
    where business_day is not null
),

counted as (
    select
        known.business_day,
        known.reason,
        count(*) as open_rows,
        max(known.seen_at) as since
    from passport_ops.rejected_row as known
    where known.gone_at is null and coalesce(known.business_day, '-infinity') in (select read.day from read)
    group by known.business_day, known.reason
)

insert into passport_ops.rejected_day (subject, business_day, reason, open_rows, first_keys, since)
select
    coalesce(counted.business_day::text, 'no day') || ' ' || counted.reason,
    counted.business_day,
    counted.reason,
    counted.open_rows,
    array(
        select coalesce(newest.order_key, newest.row_key)
        from passport_ops.rejected_row as newest
        where
            newest.gone_at is null
            and newest.reason = counted.reason
            and coalesce(newest.business_day, '-infinity') = coalesce(counted.business_day, '-infinity')
        order by newest.seen_at desc
        limit 5
    ),
    counted.since
from counted
on conflict (subject) do update set
    open_rows = excluded.open_rows,
    first_keys = excluded.first_keys,
    since = excluded.since,
    seen_at = clock_timestamp(),
    closed_at = null;
