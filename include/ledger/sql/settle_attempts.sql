-- What each call meant in the end. Answers of one group have one time: a usable one among them is between any refusals.
update passport_ops.attempt as call
set
    outcome = settled.outcome,
    late = settled.late,
    status = settled.status,
    detail = settled.detail,
    answered_at = statement_timestamp()
from
    unnest(
        %(attempt_ids)s::bigint[], %(outcomes)s::text[], %(lates)s::boolean[], %(statuses)s::integer[],
        %(details)s::text[]
    ) as settled (attempt_id, outcome, late, status, detail)
where call.attempt_id = settled.attempt_id;
