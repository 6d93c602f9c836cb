-- Who may read what. Executed by every migration, so that roles made later get their rights too. A role that it may not
-- make is left to the database's administrator, with a warning.
do $$
declare
    wanted text;
    shown text;
begin
    revoke all on all functions in schema passport_ops from public;

    foreach wanted in array array['passport_pipeline', 'passport_distributor', 'passport_analyst'] loop
        if to_regrole(wanted) is null then
            begin
                execute format('create role %I nologin', wanted);
            exception
                -- Another database of this server is being migrated at the same time.
                when duplicate_object or unique_violation then null;
                when insufficient_privilege then
                    raise warning 'this login may not create the role %; let an administrator create it, then migrate again', wanted;
            end;
        end if;
    end loop;

    if to_regrole('passport_pipeline') is not null then
        grant usage on schema passport, passport_ops to passport_pipeline;
        grant all on all tables in schema passport, passport_ops to passport_pipeline;
        grant all on all sequences in schema passport, passport_ops to passport_pipeline;
        grant execute on all functions in schema passport_ops to passport_pipeline;
    end if;

    if to_regrole('passport_distributor') is not null then
        grant usage on schema passport to passport_distributor;
        grant select, update (distributed_at) on passport.links to passport_distributor;
        -- An index of passport.links computes it when a row moves to another page.
        grant execute on function passport_ops.link_sha256(text) to passport_distributor;
    end if;

    if to_regrole('passport_analyst') is not null then
        grant usage on schema passport to passport_analyst;
        grant select on passport.days to passport_analyst;
        for shown in select viewname from pg_views where schemaname = 'passport' loop
            execute format('grant select on passport.%I to passport_analyst', shown);
        end loop;
    end if;
end
$$;
