-- Rows of the source that are not taken, by key and reason; the same key and reason twice is one row here.
insert into passport_ops.rejected_row (row_key, reason, order_key, business_day, detail, run_id)
select distinct on (row_key, reason)
    row_key,
    reason,
    order_key,
    business_day,
    detail,
    %(run_id)s
from pg_temp.incoming_rejected
order by row_key asc, reason asc, row_number desc
on conflict (row_key, reason) do update set
    order_key = excluded.order_key,
    business_day = excluded.business_day,
    detail = excluded.detail,
    run_id = excluded.run_id,
    seen_at = clock_timestamp();
