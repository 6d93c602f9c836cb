-- From here on no intent is granted for the tag.
update passport_ops.tag
set
    state = 'resetting',
    resetting_since = clock_timestamp()
where tag = %(tag)s
returning state, epoch, resetting_since;
