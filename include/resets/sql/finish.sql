-- What became of a reset. While that is unknown, the reset is not finished.
update passport_ops.tag_reset
set
    state = %(state)s,
    finished_at = case when %(state)s::text <> 'unknown' then clock_timestamp() end,
    nmp_count = %(nmp_count)s,
    orders_reset = %(orders_reset)s,
    spares_ended = %(spares_ended)s,
    detail = %(detail)s
where reset_id = %(reset_id)s;
