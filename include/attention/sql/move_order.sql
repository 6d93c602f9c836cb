-- The order goes where the person sent it; whoever still wants to write with the old fence is late.
update passport_ops.reservation
set
    state = %(to_state)s,
    reason = %(reason_kept)s,
    fence = fence + 1,
    updated_at = clock_timestamp()
where order_key = %(order_key)s;
