-- Raw answers that a dead process left unread, each with the call that it answers.
select
    kept.attempt_id,
    kept.intent_id,
    call.order_key,
    call.tag,
    kept.status,
    kept.body,
    kept.retry_after,
    kept.failure,
    kept.error
from passport_ops.answer as kept
inner join passport_ops.attempt as call on kept.attempt_id = call.attempt_id and kept.intent_id = call.intent_id
where kept.attempt_id = any(%(attempt_ids)s::bigint[]);
