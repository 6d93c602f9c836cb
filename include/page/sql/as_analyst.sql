-- Read as passport_analyst, who may see no link, if the connection's login may become that role. A login that may not reads
-- with its own rights; its administrator can give it the analyst's.
select set_config('role', 'passport_analyst', true)
where pg_has_role(
    to_regrole('passport_analyst'),
    case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end
)
