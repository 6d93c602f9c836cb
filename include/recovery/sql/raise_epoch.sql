-- The reset counts: passports of the epoch before are never given to an order. One that was under way in the backup is done.
with finished as (
    update passport_ops.tag_reset
    set
        state = 'done',
        finished_at = clock_timestamp(),
        detail = 'named in a recovery'
    where tag = %(tag)s and not dry_run and state in ('intended', 'unknown')
)

update passport_ops.tag
set
    state = 'open',
    resetting_since = null,
    epoch = epoch + 1
where tag = %(tag)s;
