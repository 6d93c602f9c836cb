-- Raw answers are written before anybody reads them; the same one twice is one.
insert into passport_ops.answer (attempt_id, status, body, retry_after, failure, error)
select
    attempt_id,
    status,
    body,
    retry_after,
    failure,
    error
from pg_temp.incoming_answer
order by attempt_id
on conflict (attempt_id) do nothing;
