import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from local.postgres import EmbeddedPostgres
from local.processes import Guard, LocalStackError
from local.stack import Ports


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="passport-links-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.dismiss()


@pytest.fixture
def server(folder: Path, guard: Guard) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres", Ports.free().postgres, guard=guard)
    server.start()
    yield server
    server.stop()


def test_a_committed_row_survives_a_killed_server(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.uri("postgres")) as connection:
        connection.execute("create table kept (word text)")
        connection.execute("insert into kept values ('kept')")
    server.kill()
    assert not server.is_alive()
    server.start()
    with psycopg.connect(server.uri("postgres")) as connection:
        assert connection.execute("select word from kept").fetchall() == [("kept",)]


def test_the_server_can_be_killed_while_clients_are_busy_and_starts_again_at_once(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.uri("postgres")) as connection:
        connection.execute("select count(*) from pg_class")
        server.kill()
        server.start()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_nobody_gets_in_without_the_password(server: EmbeddedPostgres) -> None:
    uri = server.uri("postgres").replace(server.password, "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(uri)


def test_the_server_listens_on_the_loopback_address_only(server: EmbeddedPostgres) -> None:
    assert server.pid
    listening = [c.laddr for c in psutil.Process(server.pid).net_connections("all") if c.status == "LISTEN"]
    assert listening == [("127.0.0.1", server.port)]


def test_the_password_is_in_a_private_file_and_neither_in_the_log_nor_on_the_command_line(
    server: EmbeddedPostgres,
) -> None:
    file = server.data_dir.with_name("postgres.password")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert server.pid
    assert server.password not in server.log.read_text()
    assert server.password not in " ".join(psutil.Process(server.pid).cmdline())


def test_a_second_server_object_on_the_same_data_goes_on_with_it(
    server: EmbeddedPostgres, folder: Path, guard: Guard
) -> None:
    server.create_database("shop")
    server.create_database("shop")  # a second time changes nothing
    server.stop()
    again = EmbeddedPostgres(folder / "postgres", Ports.free().postgres, guard=guard)
    again.start()
    try:
        with psycopg.connect(again.uri("shop")) as connection:
            assert connection.execute("select current_database()").fetchone() == ("shop",)
    finally:
        again.stop()


def test_a_half_made_data_folder_does_not_stand_in_the_way(folder: Path, guard: Guard) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18")
    server = EmbeddedPostgres(folder / "postgres", Ports.free().postgres, guard=guard)
    server.start()
    server.stop()


def test_a_left_over_lock_file_that_names_another_program_does_not_stand_in_the_way(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.data_dir / "postmaster.pid").write_text(f"{os.getppid()}\n{server.data_dir}\n")
    server.start()
    assert server.is_alive()


def test_a_busy_port_is_named(server: EmbeddedPostgres, folder: Path, guard: Guard) -> None:
    second = EmbeddedPostgres(folder / "second", server.port, guard=guard)
    with pytest.raises(LocalStackError, match=f"port {server.port} for PostgreSQL is in use"):
        second.start()
    assert not second.is_alive()


def test_a_lost_password_says_what_to_delete(server: EmbeddedPostgres, folder: Path) -> None:
    server.data_dir.with_name("postgres.password").unlink()
    with pytest.raises(LocalStackError, match=r"postgres.password is missing; delete .*/postgres too"):
        EmbeddedPostgres(folder / "postgres", 1).uri("postgres")
