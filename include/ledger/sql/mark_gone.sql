-- A row that was not taken is settled when a reading of its day no longer returns it so, or returns its key as an order. A
-- row without a day belongs to every reading. One that was written since this reading began, or is being written, is left
-- to the next reading. Gives the days of which a row is gone.
with settled as (
    select
        row_key,
        reason
    from passport_ops.rejected_row
    where gone_at is null and coalesce(business_day, '-infinity') = any(%(days)s::date[] || date '-infinity')
    union
    select
        known.row_key,
        known.reason
    from passport_ops.rejected_row as known
    inner join pg_temp.incoming_order as returned on known.order_key = returned.order_key
    where known.gone_at is null and known.reason <> 'duplicate_key' and returned.reason is null
),

gone as (
    select
        known.row_key,
        known.reason
    from passport_ops.rejected_row as known
    inner join settled on known.row_key = settled.row_key and known.reason = settled.reason
    where
        not exists (
            select from pg_temp.incoming_rejected as returned
            where returned.row_key = known.row_key and returned.reason = known.reason
        )
        and (%(began_at)s::timestamptz is null or known.seen_at < %(began_at)s)
    order by known.row_key, known.reason
    for update of known skip locked
),

marked as (
    update passport_ops.rejected_row as known
    set gone_at = clock_timestamp(), run_id = %(run_id)s
    from gone
    where known.row_key = gone.row_key and known.reason = gone.reason
    returning known.business_day
)

select distinct business_day
from marked
where business_day is not null;
