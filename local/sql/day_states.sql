-- The states of a business day's orders, and how many of them are in the published table.
select
    state,
    count(*) as orders,
    count(published_at) as published
from passport.link_status
where business_day = %(day)s
group by state
