-- Numbers that were given to calls since the backup are not given again, as far as anybody may have seen them.
select setval(
    pg_get_serial_sequence('passport_ops.attempt', 'attempt_id'),
    nextval(pg_get_serial_sequence('passport_ops.attempt', 'attempt_id')) + 1000000
);
