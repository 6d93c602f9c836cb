"""What tests share: lanes, a real PostgreSQL for the session, and databases of their own in it."""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest

from local.postgres import EmbeddedPostgres
from local.processes import Guard
from local.stack import Ports
from tests.databases import Database

TESTS = Path(__file__).parent
SLOW_LANES = ("browser", "chaos", "compose", "integration")
_numbers = count(1)

# Databases and stacks are made and deleted all the time, and none outlives the tests: memory is many times faster.
MEMORY, ENOUGH_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - folders in it are made by tempfile
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# Airflow writes a configuration and logs where it is told to live, as soon as it is imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="passport-links-airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m fast`` leave the slow lanes unread: what they import need not be installed."""
    slow = collection_path.parent == TESTS and collection_path.name in SLOW_LANES
    return True if slow and config.getoption("markexpr") == "fast" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its lane: the folder it is in, if that is a slow one, else fast.

    The tests of a slow lane run in one process of xdist, so that they share what is slow to start.
    """
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in SLOW_LANES:
            item.add_marker(folder)
            item.add_marker(pytest.mark.xdist_group(folder))
        else:
            item.add_marker("fast")


@pytest.fixture(autouse=True)
def _airflow_does_not_set_the_level_of_other_tests() -> None:
    """Reading a DAG configures the root logger; what a test sees of a log must not depend on the tests before it."""
    logging.getLogger().setLevel(logging.WARNING)


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
    from include.warehouse.migrate import migrate

    postgres.create_database("migrated", "template0")
    migrate(Database(postgres.uri("migrated")))
    return "migrated"


@pytest.fixture
def warehouse(postgres: EmbeddedPostgres, _migrated: str) -> Iterator[str]:
    """The URI of a freshly migrated warehouse, dropped afterwards."""
    yield from _copy_of(postgres, _migrated)


def _copy_of(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template)
    yield Database(postgres.uri(name))
    postgres.drop_database(name)


# --- the ledger's proofs: one database to a module, emptied for each test, and how long hypothesis looks


@pytest.fixture(scope="module")
def shared_warehouse(postgres: EmbeddedPostgres, _migrated: str) -> Iterator[str]:
    """The URI of a migrated warehouse that the tests of one module share; see ``emptied_warehouse``."""
    yield from _copy_of(postgres, _migrated)


@pytest.fixture
def emptied_warehouse(shared_warehouse: str) -> str:
    """The URI of the module's warehouse without a row; much cheaper than a database to each test."""
    from tests.builders.world import empty

    empty(shared_warehouse)
    return shared_warehouse


hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("nightly", deadline=None, print_blob=True, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
