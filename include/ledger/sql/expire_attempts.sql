-- Nobody knows what became of these calls: their lease ended without an answer.
update passport_ops.attempt
set
    outcome = 'unknown',
    answered_at = clock_timestamp(),
    detail = 'the lease ended without an answer'
where attempt_id = any(%(attempt_ids)s::bigint[]) and outcome is null
returning run_id, run_started_at;
