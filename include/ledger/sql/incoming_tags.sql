-- The tags of the orders that are taken, each with its campaigns.
select distinct
    tag,
    campaign
from pg_temp.incoming_order
where reason is null
order by tag, campaign;
