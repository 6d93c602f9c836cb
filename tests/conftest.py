"""What tests share: a real PostgreSQL for the session, and databases of their own in it."""

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from include.local.postgres import EmbeddedPostgres
from include.local.processes import Guard
from include.local.stack import Ports

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the session (one per xdist worker) that logs every statement; has ``.uri(database)``."""
    folder = Path(tempfile.mkdtemp(prefix="passport-links-test-"))
    guard = Guard()
    server = EmbeddedPostgres(
        folder / "postgres",
        Ports.free().postgres,
        # Nothing here outlives the session, so nothing waits for a disk.
        settings={"fsync": "off", "full_page_writes": "off", "log_statement": "all"},
        guard=guard,
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()
        guard.dismiss()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URI of an empty database, dropped afterwards."""
    yield from _copy_of(postgres, "template0")


@pytest.fixture(scope="session")
def _migrated(postgres: EmbeddedPostgres) -> str:
    """The name of a warehouse that was migrated once, to copy from."""
    from include.warehouse import migrate

    postgres.create_database("migrated", "template0")
    migrate(postgres.uri("migrated"))
    return "migrated"


@pytest.fixture
def warehouse(postgres: EmbeddedPostgres, _migrated: str) -> Iterator[str]:
    """The URI of a freshly migrated warehouse, dropped afterwards."""
    yield from _copy_of(postgres, _migrated)


def _copy_of(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template)
    yield postgres.uri(name)
    postgres.drop_database(name)
