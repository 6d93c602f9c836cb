-- Raw answers are written before anybody reads them; the same one twice is one. Without its intent an answer is that of
-- the call which has its number now.
insert into passport_ops.answer (attempt_id, intent_id, status, body, retry_after, failure, error)
select
    arrived.attempt_id,
    coalesce(arrived.intent_id, call.intent_id) as intent_id,
    arrived.status,
    arrived.body,
    arrived.retry_after,
    arrived.failure,
    arrived.error
from pg_temp.incoming_answer as arrived
left join passport_ops.attempt as call on arrived.attempt_id = call.attempt_id
order by arrived.attempt_id
on conflict (intent_id) do nothing;
