-- What a run would have reset, saved once per run and tag.
insert into passport_ops.tag_reset (tag, run_id, epoch, dry_run, state, finished_at, orders_reset, spares_ended, detail)
select
    planned.tag,
    %(run_id)s,
    planned.epoch,
    true as dry_run,
    'done' as state,
    clock_timestamp() as finished_at,
    planned.orders,
    planned.spares,
    planned.detail
from
    unnest(
        %(tags)s::text[], %(epochs)s::integer[], %(orders)s::integer[], %(spares)s::integer[], %(details)s::text[]
    ) as planned (tag, epoch, orders, spares, detail)
where
    not exists (
        select from passport_ops.tag_reset as saved
        where saved.tag = planned.tag and saved.run_id = %(run_id)s and saved.dry_run
    )
order by planned.tag;
