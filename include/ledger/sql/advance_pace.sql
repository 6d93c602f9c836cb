-- The first slot that nobody has.
update passport_ops.gate
set next_call_at = %(next_call_at)s;
