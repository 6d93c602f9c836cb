-- Nobody needs the unreadable answers of closed orders any more, and they may hold links. An answer that a dead process left
-- unread stays: it may hold a passport, which becomes a spare when it is read.
delete from passport_ops.answer as kept
using passport_ops.attempt as call
where
    kept.attempt_id = call.attempt_id
    and kept.intent_id = call.intent_id
    and call.order_key = any(%(order_keys)s::text[])
    and call.outcome <> 'unknown';
