-- What the ledger needs, whatever the database or the role is set to: a statement sees what was committed while it
-- waited for a lock, and a committed intent is not lost when the server dies.
select
    set_config('application_name', %(application_name)s, false) as application_name,
    set_config('TimeZone', 'UTC', false) as time_zone,
    set_config('default_transaction_isolation', 'read committed', false) as isolation,
    set_config(
        'synchronous_commit',
        case current_setting('synchronous_commit') when 'off' then 'on' else current_setting('synchronous_commit') end,
        false
    ) as synchronous;
