-- Days that a scheduled run serves, or left out since the last one. A day that was read by request may be there already.
insert into passport_ops.day (business_day, begins_at, ends_at, scheduled)
select
    business_day,
    begins_at,
    ends_at,
    true as scheduled
from
    unnest(%(days)s::date[], %(begins_at)s::timestamptz[], %(ends_at)s::timestamptz[])
        as added (
            business_day, begins_at, ends_at
        )
order by business_day
on conflict (business_day) do update set scheduled = true;
