-- Links that a reset took back before their campaign's stale_after was over. Only orders that are still reset: one that
-- waits again follows its campaign, which may have a longer stale_after now.
select
    held.certificate_id,
    held.order_key,
    held.tag,
    known.reserved_at,
    known.stale_after,
    closed.finished_at as reset_at
from passport_ops.reservation as known
inner join passport_ops.passport as held on known.order_key = held.order_key and known.reset_at <= held.ended_at
inner join passport_ops.tag_reset as closed on held.tag = closed.tag and held.epoch = closed.epoch
where
    known.state = 'reset'
    and held.end_reason = 'reset'
    and closed.state = 'done'
    and not closed.dry_run
    and known.reserved_at + known.stale_after > closed.finished_at
order by held.passport_id;
