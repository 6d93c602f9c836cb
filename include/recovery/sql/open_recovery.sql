-- The open recovery, with what it holds and keeps back.
select
    opened.recovery_id,
    opened.since,
    opened.began_at,
    opened.begun_by,
    opened.links_given_at is not null as links_given,
    opened.resets_named_at is not null as resets_named,
    opened.withdrawals_named_at is not null as withdrawals_named,
    opened.remembered - opened.grants as lost_grants,
    (
        select count(*)
        from passport_ops.recovery_order as held
        inner join passport_ops.reservation as known on held.order_key = known.order_key
        where held.recovery_id = opened.recovery_id and known.state = 'held'
    ) as held,
    (
        select count(*)
        from passport_ops.recovery_order as held
        where held.recovery_id = opened.recovery_id and held.adopted_at is not null
    ) as adopted,
    (select count(*) from passport_ops.adopted_link) as waiting,
    (
        select count(*)
        from passport_ops.passport as kept
        where kept.kept_back and kept.state = 'assigned'
    ) as kept_back
from passport_ops.recovery as opened
where opened.ended_at is null;
