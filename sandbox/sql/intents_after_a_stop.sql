-- Intents of a run start that had already stopped calling.
select
    call.order_key,
    call.attempt_id,
    call.run_id,
    tried.stopped_at,
    call.intended_at
from passport_ops.run_attempt as tried
inner join passport_ops.attempt as call
    on tried.run_id = call.run_id and tried.run_started_at = call.run_started_at
where call.intended_at > tried.stopped_at
order by call.attempt_id;
