-- When a load last changed some days.
select
    business_day,
    updated_at
from passport.days
where business_day = any(%(days)s)
