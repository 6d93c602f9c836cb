-- Every call that may have left, with its times as epoch seconds, to be held against the platform's history.
select
    attempt_id,
    order_key,
    tag,
    outcome,
    extract(epoch from intended_at)::double precision as intended_at,
    extract(epoch from lease_until)::double precision as lease_until,
    extract(epoch from answered_at)::double precision as answered_at
from passport_ops.attempt
order by intended_at, attempt_id;
