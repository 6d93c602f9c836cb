-- The passports that orders lost, and the withheld ones of a tag that was reset, are never used again; their links are
-- erased.
update passport_ops.passport as held
set
    state = 'ended',
    link = null,
    kept_back = false,
    order_key = case when held.state = 'assigned' then held.order_key end,
    ended_at = clock_timestamp(),
    end_reason = %(end_reason)s
where
    (held.state = 'withheld' and held.tag = %(tag)s::text)
    or (
        held.state = 'assigned'
        and held.kept_back
        and not exists (
            select
            from passport_ops.reservation as known
            where known.passport_id = held.passport_id
        )
    );
