-- The outcome of a cancelled order's last call is unknown for ever.
update passport_ops.attempt
set
    outcome = 'unknown',
    answered_at = clock_timestamp(),
    detail = 'the lease ended without an answer'
where order_key = any(%(order_keys)s::text[]) and outcome is null;
