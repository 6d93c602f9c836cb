"""What a long list of claims costs: reading it from the sandbox, and reading it into a table of PostgreSQL by COPY.

``PYTHONPATH=. python -P bench/claims.py [--ids 5000000] [--new 1000]``. The last line on standard output is one JSON
object: the seconds of each, those of the copy again after ``--new`` further claims, and the most memory (MB, resident)
that this process had, which is the reader and neither the sandbox nor PostgreSQL.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.warehouse.database import Connect, connecting_to, open_session
from local.postgres import EmbeddedPostgres
from local.processes import Guard
from local.stack import Ports
from sandbox.server import SandboxServer

TAG = "bench"
SECONDS = 300.0


def read(nmp: NmpClient) -> tuple[int, float]:
    """Read the whole list; gives the ids and the seconds."""
    began = time.monotonic()
    with nmp.listed_claims(TAG, seconds=SECONDS) as listed:
        ids = sum(map(len, listed.batches()))
    assert listed.complete, listed.why_cut
    return ids, time.monotonic() - began


def copy(nmp: NmpClient, warehouse: Connect) -> tuple[int, float]:
    """Read the whole list into a table of its own; gives its rows and the seconds."""
    began = time.monotonic()
    with open_session(warehouse, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("create temporary table listed (certificate_id text not null)")
        with nmp.listed_claims(TAG, seconds=SECONDS) as listed, cursor.copy("copy listed from stdin") as rows:
            for batch in listed.batches():
                rows.write(_lines(batch))
        assert listed.complete, listed.why_cut
        found = cursor.execute("select count(*) from listed").fetchone()
    assert found
    return found[0], time.monotonic() - began


def _lines(ids: Iterable[str]) -> str:
    return "".join(f"{id_}\n" for id_ in ids)


def main() -> int:
    """Measure each once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=5_000_000)
    parser.add_argument("--new", type=int, default=1_000)
    given = parser.parse_args()
    guard = Guard()
    with tempfile.TemporaryDirectory(prefix="passport-links-bench-") as folder, SandboxServer() as sandbox:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", Ports.free().postgres, guard=guard)
        try:
            postgres.start()
            postgres.create_database("bench")
            warehouse = connecting_to(postgres.uri("bench"))
            nmp = NmpClient(NmpConnection.validated(sandbox.start(), sandbox.api_key))
            sandbox.control().set_switches(earlier_claims={TAG: given.ids})
            (counted, read_seconds), (rows, copy_seconds) = read(nmp), copy(nmp, warehouse)
            sandbox.control().set_switches(earlier_claims={TAG: given.ids + given.new})
            again, again_seconds = copy(nmp, warehouse)
        finally:
            postgres.stop()
            guard.dismiss()
    assert (counted, rows, again) == (given.ids, given.ids, given.ids + given.new)
    figures = {
        "ids": given.ids,
        "read_seconds": round(read_seconds, 1),
        "copy_seconds": round(copy_seconds, 1),
        "copy_again_seconds": round(again_seconds, 1),
        "most_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
