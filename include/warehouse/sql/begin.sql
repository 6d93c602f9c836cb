-- Begins a transaction that holds nobody up. Who waits for a row waits twice, for its turn and then for who has the row,
-- and both together are shorter than the limit for who is idle. So clients that freeze one behind the other cost the
-- others one limit, not the sum.
begin;
set local transaction_isolation = 'read committed';
set local lock_timeout = '1500ms';
set local idle_in_transaction_session_timeout = '4s';
