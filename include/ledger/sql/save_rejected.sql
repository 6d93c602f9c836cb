-- Rows of the source that are not taken, by key and reason; the same key and reason twice is one row here. A row that is
-- known and unchanged is not written again. A row that a newer reading found gone stays gone.
insert into passport_ops.rejected_row as known (row_key, reason, order_key, business_day, detail, run_id)
select distinct on (row_key, reason)
    row_key,
    reason,
    order_key,
    business_day,
    detail,
    %(run_id)s
from pg_temp.incoming_rejected as found
where
    not exists (
        select from passport_ops.rejected_row as same
        where
            same.row_key = found.row_key
            and same.reason = found.reason
            and same.gone_at is null
            and (same.order_key, same.business_day, same.detail)
            is not distinct from (found.order_key, found.business_day, found.detail)
    )
order by row_key asc, reason asc, row_number desc
on conflict (row_key, reason) do update set
    order_key = excluded.order_key,
    business_day = excluded.business_day,
    detail = excluded.detail,
    run_id = excluded.run_id,
    seen_at = clock_timestamp(),
    gone_at = null
where known.gone_at is null or %(began_at)s::timestamptz is null or known.gone_at < %(began_at)s;
