-- A person gave the links of hand-overs, or said that there are none.
update passport_ops.recovery
set links_given_at = clock_timestamp()
where ended_at is null;
