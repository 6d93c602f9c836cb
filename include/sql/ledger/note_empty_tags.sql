-- When a tag was last found empty; for people.
update passport_ops.tag
set last_empty_at = clock_timestamp()
where tag = any(%(tags)s::text []);
