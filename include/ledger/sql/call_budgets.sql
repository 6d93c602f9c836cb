-- How many calls of possible consumption, without a link for the order, this start of the run has made for it.
select
    order_key,
    count(*) as calls
from passport_ops.attempt
where
    order_key = any(%(order_keys)s::text[])
    and run_id = %(run_id)s
    and run_started_at = %(run_started_at)s
    and outcome = any(%(outcomes)s::text[])
group by order_key;
