-- The first and the last day that scheduled runs serve; nulls before the first scheduled run.
select
    min(business_day) as first_day,
    max(business_day) as last_day
from passport_ops.day
where scheduled;
