import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.pool import NullPool

from include.settings import Settings
from include.warehouse.database import SafeDatabaseError, open_session
from include.warehouse.migrate import check_warehouse, migrate
from include.warehouse.migrations import FOLDER
from local.postgres import EmbeddedPostgres
from passport_airflow.migrate_warehouse import main
from tests.databases import Database

ROOT = Path(__file__).resolve().parents[3]
NEWEST = ScriptDirectory(str(FOLDER)).get_current_head()
ROLES = ("passport_pipeline", "passport_distributor", "passport_analyst")


def all_rows(uri: str, query: str) -> list[tuple[object, ...]]:
    with open_session(uri) as connection:
        return connection.execute(query).fetchall()


def do(uri: str, *statements: str) -> None:
    with open_session(uri, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def stranger(postgres: EmbeddedPostgres, database: str) -> Iterator[str]:
    """The URI of ``database`` for a login that has no rights in it."""
    do(database, "create role stranger login password 'geheim'")
    yield Database(database.replace(f"postgres:{postgres.password}@", "stranger:geheim@"))
    do(database, "drop owned by stranger cascade", "drop role stranger")


def test_migrating_twice_is_migrating_once(database: str) -> None:
    migrate(database)
    do(database, "insert into passport.links (order_key) values ('o-1')")
    migrate(database)
    assert all_rows(database, "select version_num from passport_ops.alembic_version") == [(NEWEST,)]
    assert all_rows(database, "select order_key from passport.links") == [("o-1",)]


def test_each_migration_makes_the_views_as_the_project_has_them(warehouse: str) -> None:
    do(warehouse, "drop view passport.needs_attention", "drop view passport.daily_funnel")
    migrate(warehouse)
    assert all_rows(warehouse, "select count(*) from passport.needs_attention, passport.daily_funnel") == [(0,)]


def test_days_that_a_run_planned_after_their_end_or_whose_orders_were_seen_after_it_count_as_read(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _migrate_to(database, "0008")
    do(
        database,
        "insert into passport_ops.tag (tag) values ('gift')",
        """
        insert into passport_ops.run
        (run_id, business_day, scheduled, sliced, tasks, orders, max_calls_per_order, max_unknown_per_run,
         max_duplicates_per_run, stop_after_refusals, planned_at)
        values
        ('by hand', '2016-11-01', false, false, 0, 0, 2, 20, 3, 3, '2016-11-12 00:01Z'),
        ('tenth', '2016-11-10', true, false, 0, 0, 2, 20, 3, 3, '2016-11-11 05:01Z'),
        ('tenth again', '2016-11-10', true, false, 0, 0, 2, 20, 3, 3, '2016-11-12 05:01Z'),
        ('too early', '2016-11-13', true, false, 0, 0, 2, 20, 3, 3, '2016-11-14 04:59Z')
        """,
        """
        insert into passport_ops.reservation
        (order_key, order_id, campaign, tag, business_day, paid_at, stale_after, state, first_seen_at)
        values ('late', 'late', 'c', 'gift', '2016-11-09', '2016-11-09 12:00Z', '30 days', 'closed',
         '2016-11-11 05:01Z')
        """,
        """
        insert into passport.days (business_day, complete, orders, published, lacking, published_at, updated_at, run_id)
        values
        ('2016-11-09', true, 1, 1, 0, now(), now(), 'tenth'), ('2016-11-10', true, 0, 0, 0, now(), now(), 'tenth'),
        ('2016-11-11', true, 0, 0, 0, now(), now(), 'failed'), ('2016-11-01', false, 1, 0, 1, now(), now(), 'by hand')
        """,
    )
    monkeypatch.setattr("include.settings.settings", lambda: Settings(shop_timezone="America/New_York"))
    migrate(database)
    assert all_rows(
        database,
        "select business_day::text, scheduled, whole, closed_by from passport_ops.day order by 1",
    ) == [
        ("2016-11-01", False, True, "by hand"),
        ("2016-11-09", False, True, "an earlier run"),
        ("2016-11-10", True, True, "tenth"),
        ("2016-11-11", True, False, None),
        ("2016-11-12", True, False, None),
        ("2016-11-13", True, False, None),
    ]
    assert all_rows(database, "select business_day::text, state, complete from passport.days order by 1") == [
        ("2016-11-01", "lacking", False),
        ("2016-11-09", "complete", True),
        ("2016-11-10", "complete", True),
        ("2016-11-11", "unread", False),
    ]
    assert all_rows(
        database, "select first_day::text, last_day::text from passport_ops.run where run_id = 'tenth'"
    ) == [("2016-11-10", "2016-11-10")]
    assert all_rows(database, "select kind, reason from passport.needs_attention") == [
        ("day_not_read", "2016-11-11 was not read since its end")
    ]


def _migrate_to(uri: str, revision: str) -> None:
    """Bring an empty database to an earlier revision, without the views."""
    with open_session(uri) as connection:
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool)
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        with engine.begin() as transaction:
            config.attributes["connection"] = transaction
            command.upgrade(config, revision)


def test_decisions_and_rejected_rows_of_before_are_kept_and_only_those_that_were_shown_are_open(database: str) -> None:
    _migrate_to(database, "0003")
    do(
        database,
        "insert into passport_ops.tag (tag) values ('gift')",
        """
        insert into passport_ops.reservation
        (order_key, order_id, campaign, tag, business_day, paid_at, stale_after, state)
        select key, key, 'gift', 'gift', '2026-11-20', now(), '30 days', 'pending'
        from unnest(array['taken', 'twice', 'released']) as key
        """,
        """
        insert into passport_ops.rejected_row (row_key, reason, order_key, business_day, detail, run_id, seen_at) values
        ('a', 'missing_key', null, '2026-11-20', 'it has no key', 'run', now()),
        ('b', 'missing_key', null, '2026-11-20', 'it has no key', 'run', now() - interval '1 day'),
        ('c', 'missing_key', null, '2026-10-01', 'it has no key', 'run', now() - interval '31 days'),
        ('d', 'missing_product', 'taken', '2026-11-20', 'it has no product', 'run', now()),
        ('e', 'duplicate_key', 'twice', '2026-11-20', 'an earlier row has it', 'run', now()),
        ('f', 'unparsable_time', 'odd', null, 'its paid_at is not a time', 'run', now())
        """,
        """
        insert into passport_ops.decision (order_key, action, reason, from_state, to_state, decided_by)
        values ('released', 'release', 'looked up', 'held', 'pending', 'ada')
        """,
    )
    migrate(database)
    assert all_rows(
        database, "select subject, reason from passport.needs_attention where kind = 'rejected' order by 1"
    ) == [
        ("2026-11-20 duplicate_key", "1 row is not taken: duplicate_key. The newest: twice"),
        ("2026-11-20 missing_key", "2 rows are not taken: missing_key. The newest: a; b"),
        ("no day unparsable_time", "1 row is not taken: unparsable_time. The newest: odd"),
    ]
    assert all_rows(database, "select row_key from passport.rejected where gone_at is not null order by 1") == [
        ("c",),
        ("d",),
    ]
    assert all_rows(database, "select kind, subject, settled_by, decided_by, why from passport.attention_history") == [
        ("held", "released", "release", "ada", "looked up")
    ]


def test_two_processes_may_migrate_at_once(database: str) -> None:
    command = [sys.executable, "-m", "passport_airflow.migrate_warehouse"]
    environment = {**os.environ, "AIRFLOW_CONN_WAREHOUSE": database, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert all(out.splitlines()[-1].startswith("Migrated the PostgreSQL database test_") for out, _ in answers), answers
    assert all_rows(database, "select version_num from passport_ops.alembic_version") == [(NEWEST,)]


def test_a_migration_that_fails_leaves_nothing_behind(database: str) -> None:
    do(database, "create schema passport", "create table passport.links (foreign_to_us text)")
    with pytest.raises(SafeDatabaseError, match="failed and changed nothing: SQLSTATE 42P07 DuplicateTable"):
        migrate(database)
    assert all_rows(database, "select nspname from pg_namespace where nspname = 'passport_ops'") == []


def test_a_login_without_rights_gets_one_sentence(stranger: str) -> None:
    with pytest.raises(SafeDatabaseError) as caught:
        migrate(stranger)
    message = str(caught.value)
    assert message.startswith("The role may not migrate the PostgreSQL database test_")
    assert message.endswith(
        "grant it CREATE on the database, or migrate as the owner: SQLSTATE 42501 InsufficientPrivilege"
    )
    assert "geheim" not in message


def test_where_roles_may_not_be_created_the_migration_goes_on_with_a_warning(
    database: str, stranger: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = database.rpartition("/")[2]
    do(database, f"grant create on database {name} to stranger")
    # Roles belong to the whole server, and other databases of this one have granted them rights.
    do(database, *(f"alter role {role} rename to {role}_away" for role in ROLES if _role_exists(database, role)))
    try:
        with caplog.at_level(logging.WARNING, logger="include.warehouse.migrate"):
            migrate(stranger)
        assert all_rows(stranger, "select version_num from passport_ops.alembic_version") == [(NEWEST,)]
        assert [record.getMessage() for record in caplog.records] == [
            f"WARNING: this login may not create the role {role}; let an administrator create it, then migrate again"
            for role in ROLES
        ]
        do(database, "create role passport_analyst nologin")
        migrate(stranger)
        assert all_rows(database, "select has_table_privilege('passport_analyst', 'passport.days', 'select')") == [
            (True,)
        ]
        do(database, "drop owned by passport_analyst", "drop role passport_analyst")
    finally:
        do(
            database,
            *(f"alter role {role}_away rename to {role}" for role in ROLES if _role_exists(database, f"{role}_away")),
        )


def _role_exists(uri: str, role: str) -> bool:
    return all_rows(uri, f"select from pg_roles where rolname = '{role}'") != []


def test_everything_has_a_comment(warehouse: str) -> None:
    uncommented = all_rows(
        warehouse,
        """
        select format('%s.%s.%s', n.nspname, c.relname, a.attname)
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where n.nspname in ('passport', 'passport_ops') and c.relkind in ('r', 'v', 'm', 'p')
        and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)
        union all
        select format('%s.%s()', n.nspname, p.proname)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('passport', 'passport_ops') and obj_description(p.oid, 'pg_proc') is null
        union all
        select nspname from pg_namespace
        where nspname in ('passport', 'passport_ops') and obj_description(oid, 'pg_namespace') is null
        """,
    )
    assert uncommented == []


def test_tables_with_links_have_no_check_and_no_not_null_beyond_their_key(warehouse: str) -> None:
    # Either one, violated, prints the whole row into the error and the server's log.
    assert all_rows(
        warehouse,
        """
        select conrelid::regclass::text, contype, pg_get_constraintdef(oid) from pg_constraint
        where conrelid::regclass::text in ('passport.links', 'passport_ops.passport', 'passport_ops.answer')
        and contype in ('c', 'n') order by 1
        """,
    ) == [
        ("passport.links", "n", "NOT NULL order_key"),
        ("passport_ops.passport", "n", "NOT NULL passport_id"),
    ]


def test_no_index_holds_a_link(warehouse: str) -> None:
    assert (
        all_rows(
            warehouse,
            """
        select indexrelid::regclass::text from pg_index
        join pg_attribute a on a.attrelid = indrelid and a.attnum = any(indkey)
        where indrelid::regclass::text in ('passport.links', 'passport_ops.passport', 'passport_ops.answer')
        and a.attname in ('link', 'body')
        """,
        )
        == []
    )


def test_no_view_reads_a_link(warehouse: str) -> None:
    views = all_rows(
        warehouse,
        """
        select distinct r.ev_class::regclass::text, d.refobjid::regclass::text, a.attname::text
        from pg_rewrite r
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
        join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where r.ev_class::regclass::text like 'passport.%'
        """,
    )
    assert {view for view, _, _ in views} == {
        "passport.attention_history",
        "passport.daily_funnel",
        "passport.link_status",
        "passport.needs_attention",
        "passport.rejected",
        "passport.tag_stock",
    }
    assert [row for row in views if row[2] in ("link", "link_sha256", "body")] == []


def test_nothing_is_granted_to_public(warehouse: str) -> None:
    assert (
        all_rows(
            warehouse,
            """
        select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace,
        aclexplode(c.relacl) as granted
        where n.nspname in ('passport', 'passport_ops') and granted.grantee = 0
        union all
        select nspname from pg_namespace, aclexplode(nspacl) as granted
        where nspname in ('passport', 'passport_ops') and granted.grantee = 0
        union all
        select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
        aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as granted
        where n.nspname in ('passport', 'passport_ops') and granted.grantee = 0
        """,
        )
        == []
    )


@pytest.mark.parametrize(
    ("role", "statement", "allowed"),
    [
        ("passport_analyst", "select * from passport.days", True),
        ("passport_analyst", "select * from passport.link_status", True),
        ("passport_analyst", "select * from passport.daily_funnel", True),
        ("passport_analyst", "select * from passport.tag_stock", True),
        ("passport_analyst", "select * from passport.needs_attention", True),
        ("passport_analyst", "select * from passport.attention_history", True),
        ("passport_analyst", "select * from passport.rejected", True),
        ("passport_analyst", "select order_key from passport.links", False),
        ("passport_analyst", "select link from passport.links", False),
        ("passport_analyst", "select tag from passport_ops.tag", False),
        ("passport_analyst", "select link from passport_ops.passport", False),
        ("passport_analyst", "select body from passport_ops.answer", False),
        ("passport_analyst", "delete from passport.days", False),
        ("passport_distributor", "select * from passport.links", True),
        ("passport_distributor", "update passport.links set distributed_at = now() where order_key = 'o-1'", True),
        ("passport_distributor", "update passport.links set state = 'reset'", False),
        ("passport_distributor", "update passport.links set link = 'mine'", False),
        ("passport_distributor", "insert into passport.links (order_key) values ('o-2')", False),
        ("passport_distributor", "delete from passport.links", False),
        ("passport_distributor", "select * from passport_ops.reservation", False),
        ("passport_distributor", "select link from passport_ops.passport", False),
        ("passport_pipeline", "insert into passport_ops.gate select where false", True),
        ("passport_pipeline", "insert into passport_ops.tag (tag) values ('t')", True),
        (
            "passport_pipeline",
            "insert into passport.links (order_key, state, link) values ('o-2', 'reserved', 'x')",
            True,
        ),
        ("passport_pipeline", "create table passport_ops.mine ()", False),
    ],
)
def test_each_role_may_do_what_it_needs_and_no_more(warehouse: str, role: str, statement: str, allowed: bool) -> None:
    with open_session(warehouse) as connection:
        connection.execute(f"set role {role}".encode())
        if allowed:
            connection.execute(statement.encode())
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_distributor_may_mark_a_row_that_has_to_move_to_another_page(warehouse: str) -> None:
    # Then every index gets a new entry, and the one on the link's hash calls a function of passport_ops.
    with open_session(warehouse) as connection:
        connection.execute(
            """
            insert into passport.links (order_key, state, link, certificate_id, customer_ref)
            select 'o-' || i, 'reserved', 'https://test.arianee.net/' || i || ',p', i::text,
                   (select string_agg(md5(i || '-' || j), '') from generate_series(1, 60) as j)
            from generate_series(1, 4) as i
            """
        )
        page = "select ctid::text from passport.links where order_key = 'o-1'"
        before = connection.execute(page).fetchone()
        connection.execute("set role passport_distributor")
        connection.execute("update passport.links set distributed_at = now() where order_key = 'o-1'")
        connection.execute("reset role")
        after = connection.execute(page).fetchone()
    assert before == ("(0,1)",)
    assert after is not None
    assert not str(after[0]).startswith("(0,")


def test_the_command_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE", raising=False)
    assert main() == 1
    assert capsys.readouterr().err == (
        "the connection 'warehouse' is missing or cannot be parsed: add it in Airflow under Admin, Connections, or set "
        "AIRFLOW_CONN_WAREHOUSE\n"
    )


def test_the_command_line_takes_airflows_json_form(
    postgres: EmbeddedPostgres, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE",
        f'{{"conn_type": "postgres", "host": "127.0.0.1", "port": {postgres.port}, "login": "postgres", '
        f'"password": "{postgres.password}", "schema": "{database.rpartition("/")[2]}"}}',
    )
    assert main() == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Migrated the PostgreSQL database test_")
    assert postgres.password not in captured.out + captured.err


def test_the_check_says_whether_the_warehouse_is_migrated_and_may_be_written(warehouse: str, database: str) -> None:
    assert check_warehouse(warehouse).endswith(f"migrated to {NEWEST}, may be written")
    with pytest.raises(SafeDatabaseError, match="was never migrated; run `make migrate`"):
        check_warehouse(database)


def test_the_check_names_both_versions_of_an_older_warehouse_and_the_next_step(warehouse: str) -> None:
    do(warehouse, "update passport_ops.alembic_version set version_num = '0001'")
    with pytest.raises(SafeDatabaseError, match=f"is at version 0001, the project at {NEWEST}; run `make migrate`"):
        check_warehouse(warehouse)


def test_the_check_says_that_the_role_may_only_read(warehouse: str, postgres: EmbeddedPostgres) -> None:
    do(
        warehouse,
        "create role reader login password 'geheim'",
        "grant usage on schema passport, passport_ops to reader",
        "grant select on all tables in schema passport_ops, passport to reader",
    )
    try:
        with pytest.raises(SafeDatabaseError, match=r"The role may not write the ledger in .*; grant it"):
            check_warehouse(Database(warehouse.replace(f"postgres:{postgres.password}@", "reader:geheim@")))
    finally:
        do(warehouse, "drop owned by reader", "drop role reader")
