-- The spares of the tag, the passports that its orders lost and those withheld from them are never used again; their links
-- are erased. Nobody was given the link of a spare or of a withheld one, so that no order had it.
update passport_ops.passport as held
set
    state = 'ended',
    link = null,
    order_key = case when held.state = 'assigned' then held.order_key end,
    ended_at = clock_timestamp(),
    end_reason = 'reset'
where
    held.tag = %(tag)s
    and (
        held.state in ('spare', 'withheld')
        or (
            held.state = 'assigned'
            and not exists (
                select from passport_ops.reservation as known
                where known.passport_id = held.passport_id
            )
        )
    )
returning held.order_key is null as was_spare;
