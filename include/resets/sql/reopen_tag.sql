-- The NMP was not asked, or did nothing: open the tag in its old epoch.
update passport_ops.tag
set
    state = 'open',
    resetting_since = null
where tag = %(tag)s;
