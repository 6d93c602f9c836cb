-- The NMP asked to slow down for so long; a pause that ends later stays.
update passport_ops.gate
set paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => %(seconds)s));
