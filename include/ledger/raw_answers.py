"""Raw answers: committed before anybody reads them, erased once they are read."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from include.ledger.intents import Intent
from include.nmp.answers import CallFailure, RawAnswer, is_http_status
from include.outcomes import MEANINGS, AttemptOutcome
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows
from include.warehouse.transactions import limited_transaction

sql = sql_of(__package__)

LONGEST_TEXT = 1000
"""Characters of a header that are kept."""


def prepare(connection: Connection) -> None:
    """Make the temporary tables into which answers and links are copied; once for each connection."""
    with limited_transaction(connection):
        connection.execute(sql("staging"))


def keep_answers(connection: Connection, answers: Mapping[int, RawAnswer], intents: Mapping[int, Intent]) -> None:
    """Write raw answers, by attempt, before anybody reads them. Writing one twice is writing it once.

    ``intents`` are those of the calls that they answer, as far as the caller knows them.
    """
    with connection.cursor() as cursor, cursor.copy(sql("copy_answers")) as copy:
        copy.set_types(["int8", "uuid", "int4", "bytea", "text", "text", "text"])
        for attempt_id, raw in answers.items():
            failure = raw.failure.value if raw.failure else None
            intent_id = intents[attempt_id].intent_id if attempt_id in intents else None
            # They may hold what a text column cannot, and nothing may keep an answer from being kept.
            retry_after = _plain(raw.retry_after) if raw.retry_after is not None else None
            status = raw.status if is_http_status(raw.status) else None
            copy.write_row((attempt_id, intent_id, status, raw.body, retry_after, failure, _plain(raw.error)))
    connection.execute(sql("keep_answers"))


def _plain(text: str) -> str:
    return ascii(text)[1:-1][:LONGEST_TEXT]


def what_can_be_kept(raw: RawAnswer, _: str) -> RawAnswer:
    """Give what is kept of an answer that the database refuses for good: its body, and that it is nothing to read."""
    return RawAnswer(raw.status, raw.body, failure=raw.failure)


def kept_answers(connection: Connection, attempt_ids: Sequence[int]) -> list[tuple[Intent, RawAnswer]]:
    """Give raw answers that a dead process wrote and did not read, each with the intent of its call."""
    parameters = {"attempt_ids": list(attempt_ids)}
    return read_rows(connection, _kept_answer, sql("read_answers"), parameters)


def _kept_answer(
    attempt_id: int,
    intent_id: UUID,
    order_key: str,
    tag: str,
    status: int | None,
    body: bytes | None,
    retry_after: str | None,
    failure: str | None,
    error: str | None,
) -> tuple[Intent, RawAnswer]:
    kind = CallFailure(failure) if failure else None
    raw = RawAnswer(status, bytes(body or b""), retry_after, kind, error or "")
    return Intent(attempt_id, order_key, tag, intent_id), raw


def withheld_answers(connection: Connection, attempt_ids: Sequence[int]) -> dict[int, RawAnswer]:
    """Give the links of withheld passports, by attempt, as raw answers: to be read by the rules that hold now."""
    found = connection.execute(sql("read_withheld"), {"attempt_ids": list(attempt_ids)})
    return {attempt_id: RawAnswer(200, link.encode()) for attempt_id, link in found}


def withheld_passports(connection: Connection, order_keys: Sequence[str]) -> list[tuple[str, int]]:
    """Give order and attempt of passports that may be accepted by now: nobody read them since their order moved."""
    found = connection.execute(sql("withheld_passports"), {"order_keys": list(order_keys)})
    return [(order_key, attempt_id) for order_key, attempt_id in found]


def unread_answers(
    connection: Connection, order_keys: Sequence[str] | None = None, most: int | None = None
) -> list[tuple[str, int]]:
    """Give order and attempt of calls whose lease is over and whose raw answer nobody has read, oldest first.

    ``order_keys`` are the orders to look at (``None``: all), ``most`` how many calls to give (``None``: all).
    """
    parameters = {"order_keys": None if order_keys is None else list(order_keys), "most": most}
    return [(order_key, attempt_id) for order_key, attempt_id in connection.execute(sql("unread_answers"), parameters)]


def erase_answers(connection: Connection, outcomes: Mapping[int, AttemptOutcome]) -> None:
    """Erase raw answers that were read, by attempt; those that are kept for a person stay."""
    read = [attempt_id for attempt_id, outcome in outcomes.items() if not MEANINGS[outcome].keeps_raw]
    if read:
        connection.execute(sql("erase_answers"), {"attempt_ids": read})
