"""The drill: a day is served, the warehouse comes back from an older backup, and a person recovers it."""

import csv
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.nmp.answers import LinkRules
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.reserving import EngineSettings, OrderResult, ReservingEngine
from include.warehouse.publishing import load_links
from local.postgres import EmbeddedPostgres
from passport_airflow.recover import main
from sandbox.checker import check
from sandbox.server import SandboxServer
from tests.builders.backup import backup_of
from tests.builders.world import DAY, World, attempt_of, order, plan, world
from tests.databases import Database

TO_SEND = "select order_key, certificate_id, link from passport.links where link is not null and distributed_at is null"
LINKS = "select order_key, certificate_id, link, state from passport.links where link is not null order by order_key"


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start(seed=7)
        server.control().create_pool("gift", 100)
        yield server


def engine(warehouse: str, sandbox: SandboxServer) -> ReservingEngine:
    client = NmpClient(NmpConnection(sandbox.base_url, sandbox.api_key))
    return ReservingEngine(Database(warehouse), client, LinkRules(), EngineSettings(concurrency=8))


def send(here: World, sent: Path) -> list[str]:
    """What a sender does: write a hand-over of what was not sent yet, and mark it. Give the order keys."""
    with sent.open("a", encoding="utf-8", newline="") as file:
        rows = here.rows.execute(TO_SEND).fetchall()
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(["order_key", "certificate_id", "link"])
        writer.writerows(rows)
    here.written.do(
        "update passport.links set distributed_at = now() where link is not null and distributed_at is null"
    )
    return sorted(row[0] for row in rows)


def mailed(*files: Path) -> list[tuple[str, str]]:
    found = []
    for path in files:
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                found += [(row["order_key"], row["link"]) for row in csv.DictReader(file)]
    return found


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_no_order_has_two_links_after_a_restore_and_none_that_had_one_is_called_for(
    postgres: EmbeddedPostgres,
    warehouse: str,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse)
    keys = [f"A{n}" for n in range(8)]
    run = attempt_of()
    first, second, third = (tmp_path / f"{name}.csv" for name in ("first", "second", "third"))

    # A day: three orders are served, and their links are sent. Then comes the backup.
    with world(warehouse) as here:
        here.planned(*keys, opened=False)
        serve(warehouse, sandbox, ["A0", "A1", "A2"])
        load_links(Database(warehouse), run_id="run", closes=[DAY])
        assert send(here, first) == ["A0", "A1", "A2"]
    since = datetime.now(UTC)
    with backup_of(postgres, warehouse) as backup:
        # It goes on: A3, A4 and the new order N1 are served and sent, A5 and N2 are served and not sent.
        with engine_of(warehouse, sandbox) as living, world(warehouse) as here:
            here.register(order("N1"), order("N2"), *(order(key) for key in keys))
            here.runs.plan_run(plan())
            assert served(living, ["A3", "A4", "N1"])
            load_links(Database(warehouse), run_id="run")
            assert send(here, second) == ["A3", "A4", "N1"]
            assert served(living, ["A5", "N2"])
            backup.put_back()
            calls = reserves(sandbox)

            # The next grant stops before any call, in this engine and in a new one.
            [refused] = living.reserve_all(run, ["A6"])
            assert refused.result is OrderResult.FAILED
            assert "run `make recover SINCE=" in (refused.reason or "")
        with engine_of(warehouse, sandbox) as new:
            assert not served(new, ["A3", "A7"])
        assert reserves(sandbox) == calls == 8

        # Without a recovery nothing can be done, and it says how to begin.
        assert main(["--links", str(second)]) == 1
        assert "begin one with make recover SINCE=" in capsys.readouterr().err
        assert main([]) == 0
        assert "Next: make recover SINCE=" in told(capsys)

        assert main(["--since", since.isoformat()]) == 0
        assert "5 orders are held" in told(capsys)
        with world(warehouse) as here:
            assert here.states(*keys)["A6"][0] == "held"
            assert here.rows.execute(TO_SEND).fetchall() == here.rows.execute(LINKS).fetchall() == []
            assert here.one("select link is null from passport.links where order_key = 'A0'")

            assert main(["--finish", "yes"]) == 1  # not before the person has said all
            assert "cannot end before you say" in capsys.readouterr().err
            assert main(["--links", str(second)]) == 0
            assert "adopted: 2 links" in (said := told(capsys))
            assert "1 links wait for their order" in said
            assert "possibly consumed by calls that are forgotten, at most: gift 3" in said

            # A run reads the day again: N1 gets its link back without a call, N2 is held.
            here.register(order("N1"), order("N2"), order("NEW", paid_at=datetime.now(UTC)), *map(order, keys))
            here.runs.plan_run(plan())
            assert [here.state(key) for key in ("A3", "N1", "N2", "NEW")] == ["reserved", "reserved", "held", "pending"]
            load_links(Database(warehouse), run_id="run")
            assert here.rows.execute(TO_SEND).fetchall() == []  # A3, A4 and N1 were sent, the older ones are kept back

            assert main(["--reset-tags", "none", "--withdrawn", "none"]) == 0
            assert "[ ]" not in told(capsys)
            assert mailed_links(here, "A0", "A1", "A2") == dict(mailed(first))
            assert send(here, third) == []  # A0 to A2 were sent before the backup, which has that

            # The person knows that nothing else was sent, and lets the rest be asked for.
            assert main(["--finish", "yes"]) == 0
            assert "ended: 4 orders wait for a link again" in told(capsys)
            rest = ["A5", "A6", "A7", "N2", "NEW"]
            serve(warehouse, sandbox, rest)
            load_links(Database(warehouse), run_id="run", closes=[DAY])
            assert send(here, third) == rest

            # No order has two links, and none that had one was called for.
            everything = mailed(first, second, third)
            assert len(everything) == len({key for key, _ in everything}) == len({link for _, link in everything}) == 11
            assert reserves(sandbox) == calls + len(rest)
            called = "select distinct order_key from passport_ops.attempt order by 1"
            assert [key for (key,) in here.rows.execute(called)] == ["A0", "A1", "A2", *rest]
            assert here.one("select sum(possibly_consumed) from passport.tag_stock") == 4

    # The checker sees the calls that the backup forgot, and nothing else.
    found = {
        violation.sentence: len(violation.rows) for violation in check(Database(warehouse), history(sandbox)).violations
    }
    assert found == {
        "a request was sent without a committed intent": 5,  # A3, A4, N1, A5 and N2
        "a passport was given and is lost: no row has it, and no unknown outcome explains it": 2,  # A5 and N2
    }


def engine_of(warehouse: str, sandbox: SandboxServer) -> "closing[ReservingEngine]":
    return closing(engine(warehouse, sandbox))


def served(made: ReservingEngine, keys: list[str]) -> bool:
    return {each.result for each in made.reserve_all(attempt_of(), keys)} == {OrderResult.SERVED}


def serve(warehouse: str, sandbox: SandboxServer, keys: list[str]) -> None:
    with engine_of(warehouse, sandbox) as made:
        assert served(made, keys)


def history(sandbox: SandboxServer) -> list[dict[str, Any]]:
    return sandbox.control().history()


def reserves(sandbox: SandboxServer) -> int:
    return sum(entry["kind"] == "reserve" for entry in history(sandbox))


def mailed_links(here: World, *keys: str) -> dict[str, str]:
    rows = here.rows.execute("select order_key, link from passport.links where order_key = any(%s)", [list(keys)])
    return dict(rows.fetchall())
