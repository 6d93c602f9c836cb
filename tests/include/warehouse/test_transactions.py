"""Transactions whose clients freeze or fall silent: others go on, and the one that wakes up gets a transient error."""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import generators
from psycopg.conninfo import make_conninfo

from include.warehouse import transactions
from include.warehouse.database import SafeDatabaseError, connecting_to, open_session, safe_errors
from include.warehouse.transactions import LIMIT_TRIES, Kind, again_after_limit, limited_transaction
from include.warehouse.watchdog import answered_within
from local.postgres import EmbeddedPostgres
from local.processes import wait_until
from tests.silent_proxy import Silence, SilentProxy

AT_MOST = 10.0  # seconds for which a client that froze may hold others up
LOCK = "select from gate for update"


@pytest.fixture
def gate(database: str) -> str:
    """A database with one row that everybody wants to lock."""
    with open_session(database, autocommit=True) as connection:
        connection.execute("create table gate (one integer primary key)")
        connection.execute("insert into gate values (1)")
    return database


def seconds_until_free(gate: str) -> float:
    """How long another client tries until it had the lock."""
    began = time.monotonic()
    with open_session(gate, autocommit=True) as connection:
        while True:
            try:
                with limited_transaction(connection):
                    connection.execute(LOCK)
                return time.monotonic() - began
            except psycopg.errors.LockNotAvailable:
                pass


class Frozen:
    """A client that asked for the lock in a limited transaction and does nothing more, whether it got it or not."""

    def __init__(self, uri: str) -> None:
        self.connection = open_session(connecting_to(uri), autocommit=True)
        self._transaction = limited_transaction(self.connection)
        self._transaction.__enter__()
        self.send(LOCK)

    def send(self, statement: str) -> None:
        self.connection.pgconn.send_query(statement.encode())

    def takes_the_result(self) -> None:
        self.connection.wait(generators.fetch_many(self.connection.pgconn))


@pytest.fixture
def freeze(gate: str) -> Iterator[Callable[..., Frozen]]:
    """Freezes another client, whose connections are closed at the end."""
    clients: list[Frozen] = []

    def frozen(uri: str = gate) -> Frozen:
        clients.append(Frozen(uri))
        return clients[-1]

    yield frozen
    for client in clients:
        client.connection.close()


@pytest.mark.parametrize("kind", Kind)
def test_limits_are_the_transactions_own(database: str, kind: Kind) -> None:
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout", "transaction_isolation")
    shown = "select " + ", ".join(f"current_setting('{name}')" for name in names)
    isolation = "repeatable read" if kind is Kind.SNAPSHOT else "read committed"
    with open_session(database) as connection:
        with limited_transaction(connection, kind):
            inside = connection.execute(shown.encode()).fetchone()
        outside = connection.execute(shown.encode()).fetchone()
    assert inside == ("1500ms", "4s", "8s" if kind is Kind.SHORT else "0", isolation)
    assert outside == ("0", "0", "0", "read committed")


def test_a_snapshot_is_taken_after_the_wait_for_a_lock(gate: str) -> None:
    with open_session(gate, autocommit=True) as connection, limited_transaction(connection, Kind.SNAPSHOT):
        with open_session(gate, autocommit=True) as other:
            other.execute("insert into gate values (2)")
        connection.execute("lock table gate in share mode")
        assert connection.execute("select count(*) from gate").fetchone() == (2,)


def test_six_clients_that_freeze_one_behind_the_other_cost_one_limit(gate: str, freeze: Callable[..., Frozen]) -> None:
    for _ in range(6):
        freeze()
    assert seconds_until_free(gate) < 6


def test_whoever_was_idle_for_too_long_gets_a_transient_error_and_a_closed_connection(gate: str) -> None:
    connection = open_session(gate, autocommit=True)
    with pytest.raises(SafeDatabaseError) as caught, safe_errors(), limited_transaction(connection):  # noqa: PT012
        connection.execute(LOCK)
        assert seconds_until_free(gate) < AT_MOST
        connection.execute("insert into gate values (2)")
    assert caught.value.transient
    assert caught.value.sqlstate == "25P03"
    assert connection.closed
    with open_session(gate) as other:
        assert other.execute("select count(*) from gate").fetchone() == (1,)


def test_a_client_that_freezes_while_it_sends_a_statement_is_ended(gate: str, freeze: Callable[..., Frozen]) -> None:
    client = freeze()
    client.takes_the_result()
    with socket.socket(fileno=os.dup(client.connection.fileno())) as wire:
        parse = b"\0select $1::text\0" + struct.pack(">h", 0)
        wire.sendall(b"P" + struct.pack(">i", 4 + len(parse)) + parse)
        wire.sendall(b"B" + struct.pack(">i", 100_000) + b"the first part of many parameters")
    assert seconds_until_free(gate) < AT_MOST


def test_a_client_that_takes_no_more_of_a_result_is_ended(gate: str, freeze: Callable[..., Frozen]) -> None:
    client = freeze()
    client.takes_the_result()
    client.send("select repeat('x', 1000) from generate_series(1, 100000)")
    assert seconds_until_free(gate) < AT_MOST


@pytest.fixture
def proxy(postgres: EmbeddedPostgres) -> Iterator[SilentProxy]:
    with SilentProxy(postgres.port) as made:
        yield made


@pytest.mark.parametrize("state", ["idle", "in a copy", "in a result"])
def test_a_lock_of_a_client_whose_host_is_gone_is_freed(
    gate: str, proxy: SilentProxy, freeze: Callable[..., Frozen], state: str
) -> None:
    client = freeze(make_conninfo(gate, port=proxy.port))
    client.takes_the_result()
    client.connection.execute("create temporary table staging (a text) on commit drop")
    if state == "in a copy":
        client.send("copy staging from stdin")
        time.sleep(0.2)  # until the server is in the copy
    if state == "in a result":
        client.send("select pg_sleep(0.5)")
    proxy.cut()
    assert seconds_until_free(gate) < AT_MOST + 1


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("silence", Silence)
def test_who_waits_for_a_silent_network_is_told_within_seconds(
    database: str, proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch, silence: Silence, kind: Kind
) -> None:
    monkeypatch.setattr(transactions, "LONG_SECONDS", 2.0)
    connection = open_session(connecting_to(make_conninfo(database, port=proxy.port)), autocommit=True)
    began = time.monotonic()
    with pytest.raises(SafeDatabaseError) as caught, safe_errors(), limited_transaction(connection, kind):  # noqa: PT012
        proxy.cut(silence=silence)
        connection.execute("select 1")
    assert time.monotonic() - began < AT_MOST
    assert caught.value.transient
    assert connection.closed


def test_what_makes_progress_may_take_longer(database: str) -> None:
    with open_session(connecting_to(database), autocommit=True) as connection:
        with answered_within(connection, 1.5) as renew:
            for _ in range(4):
                connection.execute("select pg_sleep(0.8)")
                renew()
        with pytest.raises(psycopg.OperationalError), answered_within(connection, 1.5):
            connection.execute("select pg_sleep(20)")


def test_nobody_waits_for_the_server_when_the_task_must_end(database: str, proxy: SilentProxy) -> None:
    class TaskMustEnd(BaseException):
        pass

    connection = open_session(connecting_to(make_conninfo(database, port=proxy.port)), autocommit=True)
    began = time.monotonic()
    with pytest.raises(TaskMustEnd), limited_transaction(connection):  # noqa: PT012
        proxy.cut(silence=Silence.STUCK)
        raise TaskMustEnd
    assert time.monotonic() - began < 1
    assert connection.closed


def test_a_transaction_that_a_limit_ended_is_tried_again(gate: str) -> None:
    tries: list[float] = []

    @again_after_limit
    def locks(connection: "psycopg.Connection[Any]") -> None:
        tries.append(time.monotonic())
        with limited_transaction(connection):
            connection.execute(LOCK)

    with (
        open_session(gate, autocommit=True) as connection,
        ThreadPoolExecutor(1) as threads,
        open_session(gate) as holder,
    ):
        holder.execute(LOCK)
        waiting = threads.submit(locks, connection)
        assert wait_until(lambda: len(tries) > 1, AT_MOST)
        holder.rollback()
        waiting.result(AT_MOST)
    assert len(tries) == 2


def test_but_not_for_ever() -> None:
    tries: list[int] = []

    @again_after_limit
    def refused() -> None:
        tries.append(1)
        raise psycopg.errors.LockNotAvailable

    with pytest.raises(psycopg.errors.LockNotAvailable):
        refused()
    assert len(tries) == LIMIT_TRIES
