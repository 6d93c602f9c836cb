-- Whoever settles an answer shares its tag before it locks orders, and this writes the tag in the end: so the tag comes
-- first here too.
select tag
from passport_ops.tag
where tag = %(tag)s
for no key update;
