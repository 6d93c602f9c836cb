-- The last business day that a run set out to serve; a load counts it anew, besides the days of what changed.
select max(business_day) as business_day
from passport_ops.run;
