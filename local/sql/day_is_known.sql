-- Whether the ledger has any order of a business day.
select count(*) > 0 as known
from passport_ops.reservation
where business_day = %(day)s
