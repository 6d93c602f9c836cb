-- Intents for a tag that this run start had already marked empty.
select
    call.order_key,
    call.attempt_id,
    call.tag,
    call.run_id,
    empty.since as marked_at,
    call.intended_at
from passport_ops.resting_tag as empty
inner join passport_ops.attempt as call
    on
        empty.run_id = call.run_id
        and empty.run_started_at = call.run_started_at
        and empty.tag = call.tag
where call.intended_at > empty.since
order by call.attempt_id;
