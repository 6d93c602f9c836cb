-- From PostgreSQL 17. Also ends the transaction of a client that froze while it sent a statement: such a one is not idle.
set local transaction_timeout = '8s';
