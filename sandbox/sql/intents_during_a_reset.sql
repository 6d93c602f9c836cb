-- Intents for a tag while it was closed for a reset.
select
    call.order_key,
    call.attempt_id,
    call.tag,
    closed.intended_at as closed_at,
    call.intended_at
from passport_ops.tag_reset as closed
inner join passport_ops.attempt as call on closed.tag = call.tag
where
    not closed.dry_run
    and call.intended_at > closed.intended_at
    and call.intended_at
    < case when closed.state in ('done', 'refused') then closed.finished_at else 'infinity' end
order by call.attempt_id;
