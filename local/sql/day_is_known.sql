-- Whether any order of a business day ever came to the ledger.
select count(*) > 0 as known
from passport_ops.reservation
where business_day = %(day)s
