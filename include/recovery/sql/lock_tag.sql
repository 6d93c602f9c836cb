-- A tag that was reset since the backup; nobody is granted anything of it meanwhile.
select tag
from passport_ops.tag
where tag = %(tag)s
for update;
