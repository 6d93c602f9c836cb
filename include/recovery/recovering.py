"""A recovery: the steps by which a person brings a restored ledger up to what was issued since its backup.

Each step is one transaction, and may be done again. ``docs/recovery.md`` says what to do when; ``status`` says what is
left to do.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import LiteralString

from include.ledger.forgotten import adopt_links, hold_forgotten
from include.recovery.hand_over import RecoveryError, read_hand_over, read_order_keys
from include.sql_files import sql_of
from include.warehouse.database import Connect, Connection, open_session, read_rows, safe_errors
from include.warehouse.transactions import Kind, again_after_limit, limited_transaction

sql = sql_of(__package__)

MOST_NAMED = 50


@dataclass(frozen=True)
class Recovery:
    """The open recovery.

    ``held`` orders wait for a person, ``adopted`` ones got their link from a hand-over, ``waiting`` links wait until
    their order is extracted, ``kept_back`` links are older than the backup. ``lost_grants`` is how many grants were
    lost at least; None: nobody noticed the restore.
    """

    recovery_id: int
    since: datetime
    began_at: datetime
    begun_by: str
    links_given: bool
    resets_named: bool
    withdrawals_named: bool
    lost_grants: int | None
    held: int
    adopted: int
    waiting: int
    kept_back: int


@dataclass(frozen=True)
class Fault:
    """A row of a hand-over that is not adopted, and why; without its link."""

    place: str
    order_key: str | None
    fault: str


@dataclass(frozen=True)
class Adopted:
    """What became of hand-overs: orders that have their link now, and the rows that are not adopted."""

    orders: list[str]
    faults: list[Fault]


@dataclass(frozen=True)
class Stock:
    """At most so many passports of a tag may be consumed, by calls that the ledger forgot."""

    tag: str
    orders: int


@dataclass(frozen=True)
class _Time:
    now: datetime
    went_back: bool


@again_after_limit
def begin(connect: Connect, *, since: datetime, by: str) -> Recovery:
    """Begin a recovery of what was issued after ``since`` (time zone aware), the time of the backup.

    Every order without a link is held, links and spares of the ledger are handed to nobody, and what engines and
    Airflow remember of the ledger counts no more. Raises ``RecoveryError`` for a time to come and where one is open.
    """
    with _transaction(connect) as connection:
        [time] = read_rows(connection, _Time, sql("ledger_time"))
        if since > time.now:
            message = f"SINCE={since.isoformat()} is to come: give the time of the backup that was restored"
            raise RecoveryError(message)
        if opened := _opened(connection):
            message = f"recovery {opened.recovery_id} is open since {opened.began_at:%Y-%m-%d %H:%M} UTC: go on with it"
            raise RecoveryError(message)
        connection.execute(sql("begin"), {"since": since, "by": by})
        connection.execute(sql("skip_numbers"))
        hold_forgotten(connection)
        connection.execute(sql("end_spares"))
        connection.execute(sql("keep_back_links"))
        [begun] = read_rows(connection, Recovery, sql("open_recovery"))
        return begun


@again_after_limit
def give_links(connect: Connect, files: Sequence[Path]) -> Adopted:
    """Adopt the links that hand-overs wrote, without a call; no files say that nothing was handed over.

    A link whose order the ledger does not know waits until an extraction returns it. Rows with a fault are left out,
    and then the step counts as not done. Raises ``RecoveryError`` for a file that cannot be read.
    """
    with _transaction(connect) as connection:
        connection.execute(sql("incoming_links"))
        with connection.cursor() as cursor, cursor.copy(sql("copy_hand_over")) as copy:
            copy.set_types(["text", "text", "text", "text"])
            for file in files:
                for row in read_hand_over(file):
                    copy.write_row(row)
        _lock(connection)  # nothing is locked while files are read
        faults = read_rows(connection, Fault, sql("judge_hand_over"))
        connection.execute(sql("keep_hand_over"), {"faulty": [fault.order_key for fault in faults if fault.order_key]})
        adopted = adopt_links(connection)
        if not faults:
            connection.execute(sql("note_links"))
        return Adopted(adopted, faults)


@again_after_limit
def name_resets(connect: Connect, tags: Collection[str], requeued_campaigns: Collection[str]) -> None:
    """Say which tags were reset since the backup: their links from before it end, as the reset ended them.

    ``requeued_campaigns`` are those whose orders get another link after a reset. Raises ``RecoveryError`` for a tag
    that the ledger does not know.
    """
    with _step(connect) as connection:
        for tag in sorted(set(tags)):
            if connection.execute(sql("lock_tag"), {"tag": tag}).fetchone() is None:
                message = f"no order ever named the tag {tag!r}: correct RESET_TAGS (case counts)"
                raise RecoveryError(message)
            connection.execute(sql("take_back"), {"tag": tag, "requeued_campaigns": list(requeued_campaigns)})
            connection.execute(sql("end_taken_back"), {"end_reason": "reset", "tag": tag})
            connection.execute(sql("raise_epoch"), {"tag": tag})
        connection.execute(sql("note_resets"))
        connection.execute(sql("hand_over_again"))


@again_after_limit
def name_withdrawals(connect: Connect, file: Path | None) -> None:
    """Say which links were withdrawn since the backup, by a file of order keys; None: none were.

    Raises ``RecoveryError`` for a file that cannot be read and for orders that have no link from before the backup.
    """
    order_keys = read_order_keys(file) if file else []
    with _step(connect) as connection:
        named = {"order_keys": order_keys}
        if unknown := [key for (key,) in connection.execute(sql("unknown_withdrawals"), named)]:
            message = (
                f"{len(unknown)} orders of {file} have no link that is older than the backup: "
                f"{', '.join(unknown[:MOST_NAMED])}; take them out of the file"
            )
            raise RecoveryError(message)
        connection.execute(sql("withdraw"), named)
        connection.execute(sql("end_taken_back"), {"end_reason": "withdrawn", "tag": None})
        connection.execute(sql("note_withdrawals"))
        connection.execute(sql("hand_over_again"))


@again_after_limit
def finish(connect: Connect, *, by: str) -> int:
    """End the recovery and release the orders that it still holds; give how many wait for a link again.

    Raises ``RecoveryError`` while a step is left.
    """
    with _step(connect) as connection:
        [opened] = read_rows(connection, Recovery, sql("open_recovery"))
        if left := [what for what, done in _steps(opened) if not done]:
            message = f"recovery {opened.recovery_id} cannot end before you say: {'; '.join(left)}"
            raise RecoveryError(message)
        return len(connection.execute(sql("finish"), {"by": by}).fetchall())


def require_none_open(connect: Connect) -> None:
    """Raise ``RecoveryError`` while a recovery is open: a reset would not know the youngest links."""
    with _transaction(connect) as connection:
        for (recovery_id,) in connection.execute(sql("lock_recovery")):
            message = f"recovery {recovery_id} is open, and no tag is reset before it ends: run `make recover`"
            raise RecoveryError(message)


def status(connect: Connect) -> list[str]:
    """Give, as lines for a person, what a recovery holds and what to do next."""
    with _transaction(connect) as connection:
        [time] = read_rows(connection, _Time, sql("ledger_time"))
        opened = _opened(connection)
        stocks = read_rows(connection, Stock, sql("possibly_consumed"))
    if opened is None:
        if time.went_back:
            return [
                "The warehouse went back in time, and no recovery is open.",
                "Next: make recover SINCE=<time of the backup, like 2026-11-25T03:00>",
            ]
        return ["No recovery is open, and nobody noticed that the warehouse went back in time."]
    return list(_in_words(opened, stocks))


def _in_words(opened: Recovery, stocks: Sequence[Stock]) -> Iterator[str]:
    began = f"begun {opened.began_at:%Y-%m-%d %H:%M} UTC by {opened.begun_by}"
    yield f"Recovery {opened.recovery_id}, of what was issued since {opened.since:%Y-%m-%d %H:%M} UTC, {began}:"
    yield f"  {opened.held} orders are held: their link may have been issued since"
    yield f"  {opened.adopted} orders have their link from a hand-over; {opened.waiting} links wait for their order"
    yield f"  {opened.kept_back} links from before are kept back: passport.links has none of them"
    if opened.lost_grants is not None:
        yield f"  at least {opened.lost_grants} grants were lost"
    if stocks:
        named = ", ".join(f"{stock.tag} {stock.orders}" for stock in stocks)
        yield f"  passports possibly consumed by calls that are forgotten, at most: {named}"
    left = []
    for what, done in _steps(opened):
        yield f"[{'x' if done else ' '}] {what}"
        left += [] if done else [what]
    if left:
        yield f"Next: {left[0]}"
    else:
        yield (
            f"Next: close what must get no link with resolve_attention, then make recover FINISH=yes: "
            f"runs ask again for up to {opened.held} held orders"
        )


def _steps(opened: Recovery) -> list[tuple[str, bool]]:
    return [
        (
            "the tags that were reset since: make recover RESET_TAGS=<tag,tag>, or RESET_TAGS=none",
            opened.resets_named,
        ),
        (
            "the orders whose link was withdrawn since: make recover WITHDRAWN=<file.csv>, or WITHDRAWN=none",
            opened.withdrawals_named,
        ),
        (
            'the links that were handed over since: make recover LINKS="<file.csv> <file.csv>", or LINKS=none',
            opened.links_given,
        ),
    ]


def _opened(connection: Connection) -> Recovery | None:
    found = read_rows(connection, Recovery, sql("open_recovery"))
    return found[0] if found else None


@contextmanager
def _step(connect: Connect) -> Iterator[Connection]:
    """One transaction of the open recovery, one at a time. Raises ``RecoveryError`` where none is open."""
    with _transaction(connect) as connection:
        _lock(connection)
        yield connection


def _lock(connection: Connection) -> None:
    if connection.execute(sql("lock_recovery")).fetchone() is None:
        message = "no recovery is open: begin one with make recover SINCE=<time of the backup>"
        raise RecoveryError(message)


@contextmanager
def _transaction(connect: Connect, doing: LiteralString = "The recovery changed nothing") -> Iterator[Connection]:
    with (
        open_session(connect, application_name="passport-links recovery") as connection,
        safe_errors(doing),
        limited_transaction(connection, Kind.LONG),
    ):
        yield connection
