-- The reset that closed the tag and is not finished.
select
    reset_id,
    state
from passport_ops.tag_reset
where tag = %(tag)s and epoch = %(epoch)s and not dry_run and state in ('intended', 'unknown')
order by reset_id desc
limit 1;
