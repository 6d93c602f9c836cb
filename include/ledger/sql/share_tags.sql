-- An intent holds its tag's row in share mode, so that a reset cannot begin before it is committed.
select
    tag,
    state,
    epoch
from passport_ops.tag
where tag = any(%(tags)s::text[])
for share skip locked;
