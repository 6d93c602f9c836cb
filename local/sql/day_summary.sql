-- How a business day stands, and what of it lacks a link, by state and reason.
select
    state,
    reason,
    count(*) as orders,
    count(published_at) as published
from passport.link_status
where business_day = %(day)s
group by state, reason
order by orders desc, state asc, reason asc
