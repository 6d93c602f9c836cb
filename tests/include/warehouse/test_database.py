import pickle
import socket
import traceback

import pytest

from include.warehouse.database import SafeDatabaseError, connecting_to, open_session, place, safe_errors
from local.postgres import EmbeddedPostgres

CANARY = "canary-passphrase"


def test_a_unique_violation_tells_its_constraint_and_no_value(database: str) -> None:
    with open_session(database) as connection:
        connection.execute("create table secret (link text unique)")
        with pytest.raises(SafeDatabaseError) as caught, safe_errors("The test failed"):
            connection.execute("insert into secret values (%(link)s), (%(link)s)", {"link": CANARY})
    trouble = caught.value
    assert str(trouble) == "The test failed: SQLSTATE 23505 UniqueViolation, constraint secret_link_key"
    assert (trouble.sqlstate, trouble.constraint, trouble.transient) == ("23505", "secret_link_key", False)
    assert CANARY not in "".join(traceback.format_exception(trouble))
    assert CANARY not in repr(trouble.__context__)


def test_the_original_error_is_not_shown_beside_its_trouble(database: str) -> None:
    with open_session(database) as connection, pytest.raises(SafeDatabaseError) as caught, safe_errors():
        connection.execute("select nothing")
    assert "psycopg" not in "".join(traceback.format_exception_only(caught.value))
    assert len("".join(traceback.format_exception(caught.value)).split("Traceback")) == 2


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("create table secret (link text check (link = ''))", "23514"),
        ("create table secret (link text, other text not null)", "23502"),
        ("create table secret (link integer)", "22P02"),
    ],
)
def test_no_database_error_lets_a_value_out(database: str, statement: str, sqlstate: str) -> None:
    @safe_errors()
    def fail() -> None:
        with open_session(database) as connection:
            connection.execute(statement)
            connection.execute("insert into secret (link) values (%s)", [CANARY])

    with pytest.raises(SafeDatabaseError) as caught:
        fail()
    assert caught.value.sqlstate == sqlstate
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_broken_connection_is_transient_and_stays_so(database: str) -> None:
    with open_session(database, autocommit=True) as connection, open_session(database, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(SafeDatabaseError) as first, safe_errors():
            connection.execute("select 1")
        with pytest.raises(SafeDatabaseError) as second, safe_errors():
            connection.execute("select 1")
    assert (first.value.sqlstate, first.value.transient) == ("57P01", True)
    assert (second.value.sqlstate, second.value.transient) == (None, True)


@pytest.mark.parametrize(
    ("statement", "transient"),
    [
        ("do $$ begin raise exception using errcode = '40P01'; end $$", True),
        ("do $$ begin raise exception using errcode = '53300'; end $$", True),
        ("set transaction read only; create table t ()", True),
        ("select 1 / 0", False),
        ("select nothing", False),
    ],
)
def test_only_what_may_work_later_is_transient(database: str, statement: str, transient: bool) -> None:
    with open_session(database) as connection, pytest.raises(SafeDatabaseError) as caught, safe_errors():
        connection.execute(statement)
    assert caught.value.transient is transient


def test_nobody_listening_is_transient_and_names_the_place() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SafeDatabaseError) as caught:
            open_session(connecting_to(f"postgresql://pipeline:geheim@127.0.0.1:{port}/warehouse"))
    assert str(caught.value) == (
        f"No connection to the PostgreSQL database warehouse at 127.0.0.1:{port}: it cannot be reached; "
        "check that it runs there and that host and port are right (SQLSTATE none)"
    )
    assert caught.value.transient


def test_a_wrong_password_is_not_transient_and_not_repeated(postgres: EmbeddedPostgres) -> None:
    uri = postgres.uri("postgres").replace(postgres.password, "geheim")
    with pytest.raises(SafeDatabaseError) as caught:
        open_session(connecting_to(uri))
    assert "it refuses the login; check user and password (SQLSTATE 28P01)" in str(caught.value)
    assert "geheim" not in "".join(traceback.format_exception(caught.value))
    assert not caught.value.transient


def test_a_database_that_does_not_exist_is_not_transient(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(SafeDatabaseError, match=r"database nowhere at .*: it has no such database or role") as caught:
        open_session(connecting_to(postgres.uri("nowhere")))
    assert not caught.value.transient


def test_a_commit_is_on_the_disk_whatever_the_database_is_set_to(database: str) -> None:
    with open_session(database, autocommit=True) as admin:
        (name,) = admin.execute("select current_database()").fetchall()[0]
        admin.execute(f"alter database {name} set synchronous_commit = 'off'".encode())
    with open_session(database) as connection:
        assert connection.execute("show synchronous_commit").fetchone() == ("on",)
        assert connection.execute("show transaction_isolation").fetchone() == ("read committed",)
    with open_session(database, autocommit=True) as admin:
        admin.execute(f"alter database {name} set synchronous_commit = 'remote_apply'".encode())
    with open_session(database) as connection:
        assert connection.execute("show synchronous_commit").fetchone() == ("remote_apply",)


def test_a_connection_speaks_utc(database: str) -> None:
    with open_session(database) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)


def test_trouble_survives_pickling() -> None:
    trouble = SafeDatabaseError("words", sqlstate="23505", constraint="links_link", transient=False)
    copy = pickle.loads(pickle.dumps(trouble))  # noqa: S301
    assert (str(copy), copy.sqlstate, copy.constraint, copy.transient) == ("words", "23505", "links_link", False)


def test_a_place_has_neither_user_nor_password(postgres: EmbeddedPostgres) -> None:
    with connecting_to(postgres.uri("postgres"))() as connection:
        assert place(connection) == f"the PostgreSQL database postgres at 127.0.0.1:{postgres.port}"


def test_an_address_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(SafeDatabaseError, match="the database's address is no libpq URI") as refused:
        connecting_to("postgresql://u:geheim@[::1/wh")
    assert "geheim" not in repr(refused.value)
