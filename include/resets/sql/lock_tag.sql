-- Nobody commits an intent for the tag while this row is locked.
select
    state,
    epoch,
    resetting_since
from passport_ops.tag
where tag = %(tag)s
for update;
