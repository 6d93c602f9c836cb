-- What the newest load says of some days, and when a load last changed them.
select
    business_day,
    updated_at,
    state
from passport.days
where business_day = any(%(days)s)
