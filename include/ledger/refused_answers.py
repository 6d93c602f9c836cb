"""Answers that the database refuses for good: each is set aside alone, and holds up no other one."""

import logging
import struct
from collections.abc import Callable, Mapping
from typing import TypeVar

from include.warehouse.database import SafeDatabaseError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Written = TypeVar("Written")

_REFUSALS = (SafeDatabaseError, ValueError, OverflowError, struct.error)
"""What a value that no column takes raises: in the server, or before it is sent."""


def write_or_set_aside(
    write: Callable[[Mapping[int, Answer]], list[Written]],
    answers: Mapping[int, Answer],
    instead: Callable[[Answer, str], Answer],
) -> list[Written]:
    """Write answers, by attempt, in one go; if that is refused for good, each alone, and a refused one ``instead``.

    ``write`` is a transaction of its own. ``instead`` gets the answer and why it is refused, and gives what is written
    in its place. Raises a transient error at once, and any other one that ``write`` raises for what stands in place.
    """
    try:
        return write(answers)
    except _REFUSALS as error:
        if isinstance(error, SafeDatabaseError) and error.transient:
            raise
        if len(answers) > 1:
            return [
                written
                for attempt_id, answer in answers.items()
                for written in write_or_set_aside(write, {attempt_id: answer}, instead)
            ]
        [(attempt_id, answer)] = answers.items()
        why = _why(error)
        written = write({attempt_id: instead(answer, why)})
        log.warning("the ledger refuses the answer of call %d as it is (%s): it is set aside", attempt_id, why)
        return written


def _why(error: Exception) -> str:
    """Give the SQLSTATE and the constraint, or the kind of error; never its text, which may hold a value."""
    if not isinstance(error, SafeDatabaseError) or error.sqlstate is None:
        return type(error.__context__ or error).__name__
    return f"SQLSTATE {error.sqlstate}" + (f", constraint {error.constraint}" if error.constraint else "")
