-- The rows of a business day that are not taken.
select
    reason,
    count(*) as rejected
from passport_ops.rejected_row
where business_day = %(day)s and gone_at is null
group by reason
order by reason
