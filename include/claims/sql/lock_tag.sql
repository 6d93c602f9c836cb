-- This transaction writes the tag at its end. Whoever settles an answer locks the tag before its orders, so this locks the
-- tag first, too.
select tag
from passport_ops.tag
where tag = %(tag)s
for no key update;
