-- What each call meant in the end. Answers of one group have one time: a usable one among them is between any refusals. A
-- withheld link that is read again came when it came.
update passport_ops.attempt as call
set
    outcome = settled.outcome,
    late = case when call.outcome = 'wrong_link' then call.late else settled.late end,
    status = settled.status,
    detail = settled.detail,
    answered_at = case when call.outcome = 'wrong_link' then call.answered_at else statement_timestamp() end
from
    unnest(
        %(attempt_ids)s::bigint[], %(outcomes)s::text[], %(lates)s::boolean[], %(statuses)s::integer[],
        %(details)s::text[]
    ) as settled (attempt_id, outcome, late, status, detail)
where call.attempt_id = settled.attempt_id;
