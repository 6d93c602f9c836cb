-- The page reads as passport_analyst, who may see no link, wherever the connection's login may become that role; a
-- login that may not is given the analyst's rights by its administrator, or reads with its own.
select set_config('role', 'passport_analyst', true)
where pg_has_role(
    to_regrole('passport_analyst'),
    case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end
)
