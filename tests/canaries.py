"""The search of promise 6: every link ever given and the API key, looked for where they must not be."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import psycopg

from include.local.postgres import BIN
from include.local.stack import AIRFLOW_DATABASE, Stack

RESTRICTED = ("passport.links", "passport_ops.passport", "passport_ops.answer")
"""The tables that may hold a link."""


def canaries(stack: Stack) -> list[bytes]:
    """Every passphrase in the warehouse (it stands in each form of its link), and the API key."""
    query = "select link from passport.links union select link from passport_ops.passport"
    with psycopg.connect(stack.warehouse_uri) as connection:
        links = [row[0] for row in connection.execute(query) if row[0] is not None]
    return [link.partition(",")[2].encode() for link in links] + [stack.sandbox_key.encode()]


def found(haystack: bytes, needles: Iterable[bytes]) -> int:
    """How many of the needles stand in the haystack."""
    return sum(needle in haystack for needle in needles)


def dump(uri: str, *arguments: str) -> bytes:
    """A database as SQL."""
    return subprocess.run([BIN / "pg_dump", "--inserts", *arguments, uri], check=True, capture_output=True).stdout


def log_files(stack: Stack) -> list[Path]:
    """Every file that a part or a task of the stack wrote."""
    files = [path for folder in ("logs", "airflow") for path in (stack.state / folder).rglob("*")]
    return [path for path in files if path.is_file()]


def leaks(stack: Stack) -> list[str]:
    """Where a secret stands that must not: files, Airflow's database (XCom, rendered fields, audit log, state store)
    and the unrestricted part of the warehouse."""
    needles = canaries(stack)
    places = [str(path) for path in log_files(stack) if found(path.read_bytes(), needles)]
    if found(dump(stack.postgres.uri(AIRFLOW_DATABASE)), needles):
        places.append("Airflow's database")
    if found(dump(stack.warehouse_uri, *(f"--exclude-table-data={table}" for table in RESTRICTED)), needles):
        places.append("an unrestricted table of the warehouse")
    return places
