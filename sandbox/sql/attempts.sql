-- Every call that may have been sent, with its times as epoch seconds, to compare with the history of the sandbox.
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
