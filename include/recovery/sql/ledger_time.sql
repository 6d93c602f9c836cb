-- The time by the database's clock, and whether the ledger was noticed to have gone back in time.
select
    clock_timestamp() as now,
    went_back_at is not null as went_back
from passport_ops.gate;
