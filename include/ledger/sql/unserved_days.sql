-- The days before a run's first one whose orders still wait and may still be served.
select distinct business_day
from passport_ops.reservation
where
    state = any(%(unserved)s::text[])
    and business_day < %(first_day)s
    and (carry_until is null or carry_until >= %(first_day)s)
order by business_day;
