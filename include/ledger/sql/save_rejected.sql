-- Rows of the source that were not taken, by key and reason.
insert into passport_ops.rejected_row (row_key, reason, order_key, business_day, detail, run_id)
select
    row_key,
    reason,
    order_key,
    business_day,
    detail,
    %(run_id)s
from
    unnest(
        %(row_keys)s::text[], %(reasons)s::text[], %(order_keys)s::text[], %(days)s::date[], %(details)s::text[]
    ) as rejected (row_key, reason, order_key, business_day, detail)
order by row_key, reason
on conflict (row_key, reason) do update set
    order_key = excluded.order_key,
    business_day = excluded.business_day,
    detail = excluded.detail,
    run_id = excluded.run_id,
    seen_at = clock_timestamp();
