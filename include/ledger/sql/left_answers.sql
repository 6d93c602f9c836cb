-- Calls whose answer was committed, but never read, although their lease is over.
select left_one.attempt_id
from passport_ops.answer as left_one
inner join passport_ops.attempt as call on left_one.attempt_id = call.attempt_id
where
    (call.outcome is null or call.outcome = 'unknown')
    and call.lease_until <= clock_timestamp()
order by left_one.attempt_id
limit %(most)s;
