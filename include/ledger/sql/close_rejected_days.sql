-- A day and reason of which no row is left is closed.
update passport_ops.rejected_day as line
set open_rows = 0, closed_at = clock_timestamp()
where
    line.closed_at is null
    and not exists (
        select from passport_ops.rejected_row as known
        where
            known.gone_at is null
            and known.reason = line.reason
            and coalesce(known.business_day, '-infinity') = coalesce(line.business_day, '-infinity')
    );
