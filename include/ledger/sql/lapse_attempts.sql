-- Calls whose lease ended without an answer: what became of them is unknown, and an answer that still comes is late.
update passport_ops.attempt
set
    outcome = 'unknown',
    answered_at = clock_timestamp(),
    detail = 'the lease ended without an answer'
where order_key = any(%(order_keys)s::text[]) and outcome is null
returning run_id, run_started_at as started_at;
