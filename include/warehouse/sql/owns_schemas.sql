-- Whether this role owns both schemas: others may call a migration that has nothing to do.
select bool_and(pg_has_role(nspowner, 'usage')) as owns
from pg_namespace
where nspname in ('passport', 'passport_ops');
