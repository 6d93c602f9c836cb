-- How many orders there are, and how many of them have a link.
select
    count(*) as orders,
    count(*) filter (where state in ('reserved', 'claimed')) as links
from passport_ops.reservation;
