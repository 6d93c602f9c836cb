-- While this row is locked, nobody commits an intent for the tag.
select
    state,
    epoch,
    resetting_since
from passport_ops.tag
where tag = %(tag)s
for update;
