-- The days of scheduled runs before a run's own that have ended and were not read since, from a day on.
select business_day
from passport_ops.day
where
    scheduled
    and not whole
    and ends_at <= clock_timestamp()
    and business_day >= %(not_before)s
    and business_day < %(first_day)s
order by business_day;
