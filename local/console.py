"""What ``make run``, ``make run-once`` and ``make stop`` share: progress lines, signals, and errors in one sentence."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

import requests
from pydantic import ValidationError

from include.business_day import BadDayError, UnfinishedDayError
from include.campaigns import CampaignFileError, Campaigns
from include.settings import Settings, settings
from include.warehouse.database import SafeDatabaseError
from local.processes import PROJECT, LocalStackError
from local.source_table import OrdersFileError

INTERRUPTED = 130
"""The exit code of a command that was ended by Ctrl-C."""

EXPECTED_ERRORS = (
    LocalStackError,
    BadDayError,
    UnfinishedDayError,
    CampaignFileError,
    SafeDatabaseError,
    OrdersFileError,
    requests.RequestException,
)
"""Errors with a message for people, in one sentence."""


class Progress:
    """Print lines with the seconds since the start."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._last = ""

    def __call__(self, line: str) -> None:
        """Print ``line`` unless it was the last one."""
        if line != self._last:
            self._last = line
            print(f"{time.monotonic() - self._start:5.0f} s  {line}", file=self._stream, flush=True)


def in_one_line(error: BaseException) -> str:
    """Give an error's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def print_error(error: BaseException | str) -> None:
    """Print one sentence on standard error."""
    print(in_one_line(error) if isinstance(error, BaseException) else error, file=sys.stderr, flush=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt within the block; only the first one does."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def raise_if_make_ended() -> None:
    """Raise KeyboardInterrupt when the make that started this command has died, or was interrupted alone.

    The terminal sends a SIGINT to make and to its command. A make that gets one from elsewhere does not tell its
    command and waits for it; on Linux its blocked SIGINT shows that.
    """
    if "MAKELEVEL" not in os.environ:
        return
    if os.getppid() != _PARENT or _blocks_interrupts(_PARENT):
        raise KeyboardInterrupt


_PARENT = os.getppid()


def _blocks_interrupts(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    blocked = next((line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")), "0")
    return bool(int(blocked, 16) & 1 << signal.SIGINT - 1)


def checked_settings(shop_timezone: str | None = None, campaigns_file: str | None = None) -> Settings:
    """Read the settings, where the command line wins over the environment, and check the campaign file.

    Changes the environment, so that the parts of the stack see the same. Raises ``LocalStackError`` or
    ``CampaignFileError``, which say what is wrong in one sentence.
    """
    if shop_timezone:
        os.environ["PASSPORT_LINKS_SHOP_TIMEZONE"] = shop_timezone
    if campaigns_file:
        os.environ["PASSPORT_LINKS_CAMPAIGNS_FILE"] = str(Path(campaigns_file).resolve())
    settings.cache_clear()
    try:
        found = settings()
    except ValidationError as error:
        raise LocalStackError(_first_error(error, shop_timezone)) from None
    Campaigns.load(found.campaigns_file)
    return found


def _first_error(error: ValidationError, shop_timezone: str | None) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    name = f"PASSPORT_LINKS_{str(first['loc'][0]).upper()}" if first["loc"] else ""
    if shop_timezone and name.endswith("SHOP_TIMEZONE"):
        return f"SHOP_TIMEZONE is {shop_timezone!r}, which is no IANA time zone; use one like Europe/Paris"
    return message if not name or name in message else f"{name} is {first['input']!r}: {message}"


def variable(name: str) -> str | None:
    """Give the value of a make or environment variable; ``None`` where it is unset or empty."""
    return os.environ.get(name, "").strip() or None


def short_path(path: Path) -> str:
    """Give a path as seen from the project's folder, if it is below it."""
    try:
        return str(path.relative_to(PROJECT))
    except ValueError:
        return str(path)


def with_number(number: int, what: str) -> str:
    """Give ``1 order`` or ``2 orders``."""
    return f"{number} {what if number == 1 else what + 's'}"
