-- A person named the tags that were reset since the backup, or said that there are none.
update passport_ops.recovery
set resets_named_at = clock_timestamp()
where ended_at is null;
