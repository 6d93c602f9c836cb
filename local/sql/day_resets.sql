-- How many of a day's links were taken back, by tag.
select
    tag,
    count(*) as taken_back
from passport.links
where business_day = %(day)s and state = 'reset'
group by tag
