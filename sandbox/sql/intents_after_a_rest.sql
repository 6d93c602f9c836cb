-- Intents for a tag that this run attempt already knew to be empty.
select
    call.order_key,
    call.attempt_id,
    call.tag,
    call.run_id,
    resting.since as rested_at,
    call.intended_at
from passport_ops.resting_tag as resting
inner join passport_ops.attempt as call
    on
        resting.run_id = call.run_id
        and resting.run_started_at = call.run_started_at
        and resting.tag = call.tag
where call.intended_at > resting.since
order by call.attempt_id;
