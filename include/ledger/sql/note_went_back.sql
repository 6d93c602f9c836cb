-- Somebody remembers more than this ledger has: from here on nobody is granted anything.
update passport_ops.gate
set
    went_back_at = coalesce(went_back_at, clock_timestamp()),
    remembered = greatest(remembered, %(remembered)s)
where warehouse_id = %(warehouse_id)s;
