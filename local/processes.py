"""Child processes that end with their parent, whatever happens to it.

Each part of the local stack runs in a session of its own: a Ctrl-C in the terminal reaches only the parent, which ends
its parts in order, and whatever a part started (executor workers, tasks) is found by its session. A guard process
(``local.guard``) ends the same sessions when the parent dies without doing so, by SIGKILL for instance.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

PROJECT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.05


class LocalStackError(Exception):
    """The local stack cannot go on; the message is one sentence that names the thing and the next step."""


def wait_until(condition: Callable[[], bool], seconds: float, poll: float = POLL_SECONDS) -> bool:
    """Poll ``condition`` until it is true (returns true) or ``seconds`` have passed (returns false)."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll)
    return True


@dataclass(frozen=True)
class Session:
    """A session whose leader we started: its process id, when it began (to know it again), how it is asked to end."""

    leader: int
    began: float
    stop_signal: int = signal.SIGTERM

    @classmethod
    def of(cls, pid: int, stop_signal: int = signal.SIGTERM) -> "Session":
        """Give the session that process ``pid``, just started, leads."""
        return cls(pid, psutil.Process(pid).create_time(), stop_signal)

    def leads(self) -> bool:
        """Say whether the leader still runs (a zombie does not)."""
        return _alive(self.leader) and self._is_ours()

    def members(self) -> list[psutil.Process]:
        """List every running process of this session, the leader included."""
        if not self._is_ours():
            return []
        return [psutil.Process(pid) for pid in psutil.pids() if _session_of(pid) == self.leader and _alive(pid)]

    def send(self, signal_number: int) -> None:
        """Send a signal to the leader, if it still runs."""
        if self.leads():
            _send(self.leader, signal_number)

    def _is_ours(self) -> bool:
        """Say whether the leader's process id still means the process that we started."""
        try:
            return bool(abs(psutil.Process(self.leader).create_time() - self.began) < 1)
        except psutil.NoSuchProcess:
            return True  # the kernel gives a session's id to nobody while the session has members


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _send(pid: int, signal_number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def end_sessions(
    sessions: Iterable[Session], grace_seconds: float, is_idle: Callable[[], bool] = lambda: False
) -> None:
    """Ask the leaders to end, wait for it up to ``grace_seconds`` or until ``is_idle``, then SIGKILL what is left."""
    sessions = list(sessions)

    def remaining() -> list[psutil.Process]:
        return [process for session in sessions for process in session.members()]

    for session in sessions:
        session.send(session.stop_signal)
    wait_until(lambda: not any(session.leads() for session in sessions) or is_idle(), grace_seconds)
    # With its leader gone a session has no work left that anybody would record.
    while left := remaining():
        for process in left:
            _send(process.pid, signal.SIGKILL)
        wait_until(lambda: not remaining(), 1)


class Guard:
    """The process that ends our children if we die before we could; see ``local.guard``."""

    def __init__(self, keep_open: Sequence[int] = ()) -> None:
        # keep_open: file descriptors (the state folder's lock) that must stay open until the last child has ended.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.guard"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            pass_fds=tuple(keep_open),
            start_new_session=True,
        )

    def watch(self, session: Session) -> None:
        """From now on end this session too. Sessions are ended in the reverse order of this call."""
        if self._process.stdin is None or self._process.poll() is not None:
            message = "the process that guards the local stack has ended; start the command again"
            raise LocalStackError(message)
        self._process.stdin.write(f"{session.leader} {session.began} {int(session.stop_signal)}\n".encode())
        self._process.stdin.flush()

    def dismiss(self) -> None:
        """Let the guard end whatever still runs, then end itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


class Part(Protocol):
    """What every part of the stack can do."""

    @property
    def pid(self) -> int | None:
        """The part's process id while it runs."""

    def is_alive(self) -> bool:
        """Whether its process runs."""

    def start(self) -> None:
        """Start it; nothing if it runs."""

    def stop(self, grace_seconds: float = 8) -> None:
        """Ask it to end, wait, then end it and everything it started."""

    def kill(self) -> None:
        """SIGKILL its main process, as a crash would; what it started lives on."""


@dataclass
class ChildProcess:
    """One command as a child process in its own session, writing to a log file.

    ``user`` runs it as another system user (needs root). A restart appends to the log, a new object empties it.
    """

    name: str
    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(repr=False)
    guard: Guard | None = None
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _sessions: list[Session] = field(default_factory=list, init=False, repr=False)

    def start(self) -> None:
        """Start the command; nothing if it runs."""
        if self.is_alive():
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab" if self._sessions else "wb") as log:
            self._popen = subprocess.Popen(
                self.argv,
                cwd=PROJECT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        session = Session.of(self._popen.pid, self.stop_signal)
        self._sessions.append(session)
        if self.guard:
            self.guard.watch(session)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._popen.pid if self._popen and self.is_alive() else None

    @property
    def sessions(self) -> list[Session]:
        """The sessions of this and former starts: processes that outlived a kill are still found there."""
        return self._sessions

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._popen is not None and self._popen.poll() is None

    def kill(self) -> None:
        """SIGKILL the process itself, as a crash would, and wait until it is gone; what it started lives on."""
        if self._popen:
            self._popen.kill()
            self._popen.wait()

    def stop(self, grace_seconds: float = 8) -> None:
        """Ask it to end, wait up to ``grace_seconds``, then SIGKILL it and everything it ever started."""
        end_sessions(self._sessions, grace_seconds)
        if self._popen:
            self._popen.wait()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def wait(self, seconds: float) -> int:
        """Wait for a one-shot command's end and return its exit code; raises LocalStackError after ``seconds``."""
        if self._popen is None:
            message = f"{self.name} was never started"
            raise LocalStackError(message)
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            message = f"{self.name} has not ended after {seconds:g} seconds; read {self.log}"
            raise LocalStackError(message) from None
