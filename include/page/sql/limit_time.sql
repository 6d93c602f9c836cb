-- The time limit of the statements that follow in this transaction.
select set_config('statement_timeout', %(milliseconds)s::text, true)
