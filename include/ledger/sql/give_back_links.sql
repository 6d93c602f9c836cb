-- Calls that certainly consumed nothing are no new links.
update passport_ops.new_links as counted
set links = counted.links - given_back.links
from
    unnest(%(run_ids)s::text[], %(clock_days)s::date[], %(links)s::integer[])
        as given_back (run_id, clock_day, links)
where counted.run_id = given_back.run_id and counted.clock_day = given_back.clock_day;
