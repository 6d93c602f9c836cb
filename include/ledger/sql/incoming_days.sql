-- How many orders of each business day are taken.
select
    business_day,
    count(*) as orders
from pg_temp.incoming_order
where reason is null
group by business_day;
