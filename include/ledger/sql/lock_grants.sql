-- The grant lock: grants, stops and empty tags are written one after another.
select one
from passport_ops.gate
for update;
