-- What became of a day's links: those that were taken back, and under which tag.
select
    tag,
    count(*) as taken_back
from passport.links
where business_day = %(day)s and state = 'reset'
group by tag
