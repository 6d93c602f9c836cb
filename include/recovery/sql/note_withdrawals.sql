-- A person named the links that were withdrawn since the backup, or said that there are none.
update passport_ops.recovery
set withdrawals_named_at = clock_timestamp()
where ended_at is null;
