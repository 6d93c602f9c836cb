"""Promise 6 on the runs before: no link, passphrase or API key anywhere but in the restricted columns."""

import subprocess
from pathlib import Path

import pytest

from include.local.postgres import BIN
from include.local.stack import AIRFLOW_DATABASE
from tests.integration.conftest import Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.xdist_group("integration")]


def canaries(running: Running) -> list[bytes]:
    """Every passphrase ever published: it stands in each form of its link. And the key."""
    links = [row[0] for row in running.ask("select link from passport.links where link is not null")]
    return [link.partition(",")[2].encode() for link in links] + [running.stack.sandbox_key.encode()]


def dump(uri: str, *arguments: str) -> bytes:
    return subprocess.run([BIN / "pg_dump", *arguments, uri], check=True, capture_output=True).stdout


def found(haystack: bytes, needles: list[bytes]) -> int:
    return sum(needle in haystack for needle in needles)


def test_the_search_finds_links_where_they_may_be(running: Running) -> None:
    warehouse = dump(running.stack.warehouse_uri)
    links = [needle for needle in canaries(running) if needle != running.stack.sandbox_key.encode()]
    assert len(links) > 100
    assert found(warehouse, links) == len(links)


def test_no_log_of_any_part_holds_a_secret(running: Running) -> None:
    needles = canaries(running)
    files = [path for folder in ("logs", "airflow") for path in (running.stack.state / folder).rglob("*")]
    searched = [path for path in files if path.is_file()]
    assert any("attempt=1.log.trigger" in path.name for path in searched)
    assert "passport_ops.answer" in (running.stack.logs / "postgres.log").read_text()  # it does log statements
    assert {str(path): found(Path(path).read_bytes(), needles) for path in searched if _holds(path, needles)} == {}


def _holds(path: Path, needles: list[bytes]) -> bool:
    return found(path.read_bytes(), needles) > 0


def test_airflow_s_own_database_holds_no_secret(running: Running) -> None:
    metadata = dump(running.stack.postgres.uri(AIRFLOW_DATABASE), "--inserts")
    assert b"reserve_passport_links" in metadata
    assert found(metadata, canaries(running)) == 0


def test_only_the_restricted_columns_of_the_warehouse_hold_a_link(running: Running) -> None:
    tables = ["passport.links", "passport_ops.passport", "passport_ops.answer"]
    rest = dump(running.stack.warehouse_uri, *(f"--exclude-table-data={table}" for table in tables))
    assert b"passport_ops.attempt" in rest
    assert found(rest, canaries(running)) == 0
