"""A process that stops itself (SIGSTOP) once, at a named point of its work with the database; the tests wake it up.

``python -m tests.include.freezing_process '{"at": "lock_grants", "does": "serve", "uri": …}'``: ``at`` is the name of a
statement of the ledger or the warehouse, after which it stops with what that one locked; ``waiting lock_grants``, while
it waits for that statement; or ``copy``, in the middle of one. It serves, registers or loads, and prints how it ended.
"""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

import psycopg

from include.business_day import bounds_of
from include.ledger.runs import RunLedger
from include.sql_files import sql_of
from include.warehouse.database import SafeDatabaseError, connecting_to
from include.warehouse.publishing import load_links
from tests.builders.world import DAY, UTC_ZONE, order
from tests.include import engine_process

MOMENT = 0.3  # seconds after which a statement that must wait does wait
_is_due = True


def stop_once() -> None:
    global _is_due
    if _is_due:
        _is_due = False
        os.kill(os.getpid(), signal.SIGSTOP)


def freeze_at(name: str) -> None:
    if name == "copy":
        write_row = psycopg.Copy.write_row

        def and_stop_in_the_copy(copy: Any, row: Any) -> None:
            write_row(copy, row)
            stop_once()

        psycopg.Copy.write_row = and_stop_in_the_copy  # type: ignore[method-assign]
        return
    waiting, _, name = name.rpartition(" ")
    statements = []
    for package in ("include.ledger", "include.warehouse"):
        with suppress(FileNotFoundError):
            statements.append(sql_of(package)(name))
    assert statements, name
    execute = psycopg.Cursor.execute

    def and_stop(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if waiting and query in statements:
            threading.Timer(MOMENT, stop_once).start()
        done = execute(cursor, query, *arguments, **options)
        if not waiting and query in statements:
            stop_once()
        return done

    psycopg.Cursor.execute = and_stop  # type: ignore[method-assign]


def main() -> None:
    given = json.loads(sys.argv[1])
    freeze_at(given["at"])
    if given["does"] == "serve":
        engine_process.main()
        return
    uri = connecting_to(given["uri"])
    try:
        if given["does"] == "load":
            result = load_links(uri, run_id="the frozen one", closes=[DAY])
            print(f"published {result.published_now}")
        else:
            orders = [order(key, product="a watch") for key in given["keys"]]
            with RunLedger(uri) as ledger:
                registered = ledger.register(
                    orders, run_id="the frozen one", days_read=bounds_of([DAY], UTC_ZONE), pool_sizes={}
                )
            print(f"registered {sum(registered.orders.values())}")
    except SafeDatabaseError as error:
        print(f"transient: {error.transient}")


if __name__ == "__main__":
    main()
