-- What became of a reset.
update passport_ops.tag_reset
set
    state = %(state)s,
    finished_at = clock_timestamp(),
    nmp_count = %(nmp_count)s,
    orders_reset = %(orders_reset)s,
    spares_ended = %(spares_ended)s,
    detail = %(detail)s
where reset_id = %(reset_id)s;
