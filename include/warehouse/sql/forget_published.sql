-- What this load published no longer waits for one.
delete from passport_ops.unpublished
where not order_key = any(%(refused)s::text[]);
