-- The same with one snapshot for all statements. It is taken by the first one that reads, so after a wait for a lock.
begin;
set local transaction_isolation = 'repeatable read';
set local lock_timeout = '1500ms';
set local idle_in_transaction_session_timeout = '4s';
