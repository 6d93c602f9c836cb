-- The tag may be asked again. Passports of the epoch that ends here are never given to an order.
update passport_ops.tag
set
    state = 'open',
    resetting_since = null,
    epoch = epoch + 1
where tag = %(tag)s;
