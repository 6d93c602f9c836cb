-- The epochs of some tags.
select
    tag,
    epoch
from passport_ops.tag
where tag = any(%(tags)s::text []);
