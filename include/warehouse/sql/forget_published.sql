-- The changes that this load has published wait for no load any more.
delete from passport_ops.unpublished
where not order_key = any(%(refused)s::text[]);
