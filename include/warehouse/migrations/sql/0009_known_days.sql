-- The days that were known before there was a calendar: those of orders, and all between the first and the last that a
-- scheduled run served; days that a run served by request, too.
select
    known.business_day,
    bool_or(known.scheduled) as scheduled
from (
    select
        served.business_day::date as business_day,
        true as scheduled
    from (
        select
            min(first_day) as first_day,
            max(last_day) as last_day
        from passport_ops.run
        where scheduled
    ) as by_schedule
    cross join generate_series(by_schedule.first_day, by_schedule.last_day, interval '1 day') as served (business_day)
    union all
    select
        first_day as business_day,
        false as scheduled
    from passport_ops.run
    union all
    select
        business_day,
        false as scheduled
    from passport_ops.reservation
) as known
group by known.business_day
order by known.business_day;
