-- After a lost connection: intents of this caller that were committed without its knowledge were never sent.
update passport_ops.attempt
set
    outcome = 'not_sent',
    answered_at = clock_timestamp(),
    detail = 'the connection to the ledger broke while the intent was committed'
where caller = %(caller)s and outcome is null and not attempt_id = any(%(under_way)s::bigint[])
returning order_key, fence, run_id, clock_day;
