-- What the ledger needs, whatever the database or the role is set to: a statement sees what was committed while it
-- waited for a lock, and a committed intent is not lost when the server dies. The server notices within ten seconds that
-- the client's host is gone, in whatever state its connection is, and that a client takes no more of a result.
select
    set_config('application_name', %(application_name)s, false) as application_name,
    set_config('TimeZone', 'UTC', false) as time_zone,
    set_config('default_transaction_isolation', 'read committed', false) as isolation,
    set_config(
        'synchronous_commit',
        case current_setting('synchronous_commit') when 'off' then 'on' else current_setting('synchronous_commit') end,
        false
    ) as synchronous,
    set_config('tcp_keepalives_idle', '5', false) as keepalives_idle,
    set_config('tcp_keepalives_interval', '2', false) as keepalives_interval,
    set_config('tcp_keepalives_count', '2', false) as keepalives_count,
    set_config('tcp_user_timeout', '8s', false) as user_timeout;
