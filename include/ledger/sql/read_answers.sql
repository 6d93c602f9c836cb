-- Raw answers that a dead process left unread.
select
    attempt_id,
    status,
    body,
    retry_after,
    failure,
    error
from passport_ops.answer
where attempt_id = any(%(attempt_ids)s::bigint[]);
