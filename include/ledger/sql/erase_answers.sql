-- A raw answer that has been read is erased.
delete from passport_ops.answer
where attempt_id = any(%(attempt_ids)s::bigint[]);
