-- The orders of a business day by state and reason, and how many of them have a published link.
select
    state,
    reason,
    count(*) as orders,
    count(published_at) as published
from passport.link_status
where business_day = %(day)s
group by state, reason
order by orders desc, state asc, reason asc
