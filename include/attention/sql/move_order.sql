-- Move the order to the state that the person decided. The fence rises: an answer to its last call is late now.
update passport_ops.reservation
set
    state = %(to_state)s,
    reason = %(reason_of_move)s,
    fence = fence + 1,
    updated_at = clock_timestamp()
where order_key = %(order_key)s;
