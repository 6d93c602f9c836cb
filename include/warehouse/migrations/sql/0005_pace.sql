-- The pace of calls over all runs and processes.

alter table passport_ops.gate
add column next_call_at timestamptz,
add column paused_until timestamptz;
comment on column passport_ops.gate.next_call_at is
'The first slot of calls_per_second that no call has; null or past: a call may begin at once.';
comment on column passport_ops.gate.paused_until is 'No intent begins before: the Retry-After of an answer.';
