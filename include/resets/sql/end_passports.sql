-- The spares of the tag and the passports that its orders lost are never used again; their links are erased.
update passport_ops.passport as held
set
    state = 'ended',
    link = null,
    ended_at = clock_timestamp(),
    end_reason = 'reset'
where
    held.tag = %(tag)s
    and (
        held.state = 'spare'
        or (
            held.state = 'assigned'
            and not exists (
                select from passport_ops.reservation as known
                where known.passport_id = held.passport_id
            )
        )
    )
returning held.order_key is null as was_spare;
