-- The rows of a business day, or of no day at all, that were not taken.
select
    reason,
    count(*) as rejected
from passport_ops.rejected_row
where business_day = %(day)s
group by reason
order by reason
