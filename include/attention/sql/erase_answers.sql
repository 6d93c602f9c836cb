-- The unreadable answers of a closed order are of no more use, and may hold links. One that a dead process left unread is
-- not among them: it may hold a passport, which becomes a spare once it is read.
delete from passport_ops.answer as kept
using passport_ops.attempt as call
where kept.attempt_id = call.attempt_id and call.order_key = %(order_key)s and call.outcome <> 'unknown';
