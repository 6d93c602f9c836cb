-- The tag may be asked again; passports of the epoch that ends here are never handed out.
update passport_ops.tag
set
    state = 'open',
    resetting_since = null,
    epoch = epoch + 1
where tag = %(tag)s;
