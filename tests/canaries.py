"""The search of promise 6: every link ever given and the API key, looked for where they must not be."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.postgres import BIN
from local.stack import AIRFLOW_DATABASE, WAREHOUSE_DATABASE, Stack
from sandbox.journal import Journal
from sandbox.platform import Platform

RESTRICTED = ("passport.links", "passport_ops.passport", "passport_ops.answer")
"""The tables that may hold a link."""

API_LISTS = {
    "/dags": "dags",
    "/dags/~/dagRuns": "dag_runs",
    "/dags/~/dagRuns/~/taskInstances": "task_instances",
    "/dags/~/dagRuns/~/taskInstances/~/xcomEntries": "xcom_entries",
    "/eventLogs": "event_logs",
    "/assets/events": "asset_events",
    "/connections": "connections",
    "/importErrors": "import_errors",
}
"""What the REST API tells in lists: path and key."""


class Secrets:
    """Strings to be looked for: every passphrase (each form of its link holds it) and the API key."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.sought = sorted(set(secrets))

    @classmethod
    def of(cls, stack: Stack) -> "Secrets":
        """All that a stack's sandbox ever gave, those included that no ledger saw; and its key."""
        with tempfile.TemporaryDirectory() as folder:
            journal = shutil.copy(stack.sandbox_journal, folder)
            platform = Platform(journal=Journal(Path(journal)))
        return cls([*platform.pools.passphrases, stack.sandbox_key])

    def files_with_one(self, files: Iterable[Path]) -> list[Path]:
        """Those of the files that hold a secret; grep looks for all of them at once."""
        paths = [str(path) for path in files]
        if not paths:
            return []
        found = self._grep("--files-with-matches", "--null", "--", *paths)
        return [Path(name) for name in found.decode().split("\0") if name]

    def found_in(self, text: bytes) -> set[str]:
        """The secrets that are in the text."""
        return set(self._grep("--only-matching", given=text).decode().split())

    def _grep(self, *arguments: str, given: bytes | None = None) -> bytes:
        with self._listed() as listed:
            command = ["grep", "--fixed-strings", "--text", f"--file={listed}", *arguments]
            done = subprocess.run(command, input=given, capture_output=True, check=False, env={"LC_ALL": "C"})
        assert done.returncode in (0, 1), done.stderr.decode()
        return done.stdout

    @contextmanager
    def _listed(self) -> Iterator[str]:
        """The secrets in a file that only we may read: arguments would show in the list of processes."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("\n".join(self.sought))
            file.flush()
            yield file.name


def dump(uri: str, *arguments: str) -> bytes:
    """A database as SQL."""
    return subprocess.run([BIN / "pg_dump", "--inserts", *arguments, uri], check=True, capture_output=True).stdout


def log_files(stack: Stack) -> list[Path]:
    """Every file that a part or a task of the stack wrote."""
    files = [path for folder in ("logs", "airflow") for path in (stack.state / folder).rglob("*")]
    return [path for path in files if path.is_file()]


def bodies(stack: Stack) -> dict[str, bytes]:
    """What the REST API and the page show to a user who may see everything, by path."""
    found = {path: json.dumps(stack.api.pages(path, key)).encode() for path, key in API_LISTS.items()}
    for entry in json.loads(found["/dags/~/dagRuns/~/taskInstances/~/xcomEntries"]):
        path = (
            f"/dags/{entry['dag_id']}/dagRuns/{entry['run_id']}/taskInstances/{entry['task_id']}/xcomEntries/"
            f"{entry['key']}"
        )
        found[f"{path} {entry['map_index']}"] = json.dumps(stack.api.get(path, map_index=entry["map_index"])).encode()
    with stack.warehouse() as connection:
        days = connection.execute("select distinct business_day from passport_ops.reservation").fetchall()
        some = connection.execute("select min(order_key) from passport_ops.reservation group by state").fetchall()
    for query in ["", *(f"?day={day}" for (day,) in days), *(f"?order={key}" for (key,) in some)]:
        found[f"the page {query}"] = stack.api.page(f"/passport-links/{query}")
    return found


def leaks(stack: Stack, more: dict[str, bytes] | None = None) -> list[str]:
    """Where a secret is that must not be.

    Looks at every file, at Airflow's database (XCom, rendered fields, audit log, state store), at the unrestricted part
    of the warehouse, at the bodies of the API and the page, and at ``more``, by name.
    """
    secrets = Secrets.of(stack)
    told: dict[str, Any] = {
        "Airflow's database": dump(stack.postgres.uri(AIRFLOW_DATABASE)),
        "an unrestricted table of the warehouse": dump(
            stack.postgres.uri(WAREHOUSE_DATABASE), *(f"--exclude-table-data={table}" for table in RESTRICTED)
        ),
        **bodies(stack),
        **(more or {}),
    }
    places = [str(path) for path in secrets.files_with_one(log_files(stack))]
    return places + [place for place, text in told.items() if secrets.found_in(text)]
