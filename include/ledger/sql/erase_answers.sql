-- A raw answer that has been read is erased.
delete from passport_ops.answer as kept
using passport_ops.attempt as call
where
    kept.attempt_id = any(%(attempt_ids)s::bigint[])
    and kept.attempt_id = call.attempt_id
    and kept.intent_id = call.intent_id;
