-- The NMP was not asked, or did nothing: the tag goes on as it was.
update passport_ops.tag
set
    state = 'open',
    resetting_since = null
where tag = %(tag)s;
