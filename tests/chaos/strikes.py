"""What goes wrong in a chaos run: the NMP's faults, and which process is struck when. A seed reproduces both."""

import random
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import psutil

from local.processes import ChildProcess, Part, wait_until
from local.stack import Stack
from sandbox.faults import Fault, FaultRule
from tests.silent_proxy import Silence, SilentProxy

FAULTS = [
    FaultRule(fault=Fault.LOST_ANSWER, probability=0.05),
    FaultRule(fault=Fault.SERVER_ERROR_BEFORE, probability=0.03),
    FaultRule(fault=Fault.SERVER_ERROR_AFTER, probability=0.03),
    FaultRule(fault=Fault.CONNECTION_RESET, probability=0.02),
    FaultRule(fault=Fault.TRUNCATED, probability=0.01),
    FaultRule(fault=Fault.REDIRECT, probability=0.001, burst=5),
    FaultRule(fault=Fault.REDIRECT, probability=0.001, burst=5, commit=True),
    FaultRule(fault=Fault.DRIP, probability=0.01, seconds=1.0),
    FaultRule(fault=Fault.TOO_MANY_REQUESTS, probability=0.001, burst=10, retry_after=1),
    FaultRule(fault=Fault.DUPLICATE, probability=0.002, limit=1),
]
"""The mix. One call in a hundred is redirected, five in a row, as by a gateway that is set up wrong for a moment: three
in a row stop a run, and the clear that follows starts it again."""

LATENCY_MILLISECONDS = (200, 1000)
"""How long an answer takes, so that a strike finds calls under way."""

FREEZE_SECONDS = (5, 90)
LONGEST_WAIT_FOR_A_VICTIM = 20.0  # seconds; then the triggerer is struck, which is always there


class Kind(StrEnum):
    """What is done to a process."""

    KILL = "kill"  # SIGKILL
    FREEZE = "freeze"  # SIGSTOP, and SIGCONT later
    CUT = "cut"  # its connections to the warehouse go silent: no FIN, no RST


class Victim(StrEnum):
    """Whom it is done to."""

    SLICE_TASK = "slice task"
    WORKER = "executor worker"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    API_SERVER = "API server"
    POSTGRES = "PostgreSQL"
    SANDBOX = "sandbox"
    EVERYBODY = "everybody"


WEIGHTS = {
    (Kind.KILL, Victim.SLICE_TASK): 7,
    (Kind.KILL, Victim.WORKER): 3,
    (Kind.KILL, Victim.TRIGGERER): 2,
    (Kind.KILL, Victim.SCHEDULER): 1,
    (Kind.KILL, Victim.API_SERVER): 1,
    (Kind.KILL, Victim.POSTGRES): 2,
    (Kind.KILL, Victim.SANDBOX): 2,
    (Kind.FREEZE, Victim.SLICE_TASK): 8,
    (Kind.FREEZE, Victim.WORKER): 2,
    (Kind.FREEZE, Victim.TRIGGERER): 4,
    (Kind.FREEZE, Victim.SCHEDULER): 2,
    (Kind.CUT, Victim.SLICE_TASK): 7,
    (Kind.CUT, Victim.TRIGGERER): 3,
    (Kind.CUT, Victim.EVERYBODY): 3,
}


@dataclass(frozen=True)
class PlannedStrike:
    """A strike as the seed wants it: ``seconds`` of a freeze, ``silence`` of a cut."""

    kind: Kind
    victim: Victim
    seconds: int
    silence: Silence

    @property
    def how(self) -> str:
        """For how long it is frozen, or what its connections still hear."""
        return {Kind.KILL: "", Kind.FREEZE: f"for {self.seconds} s", Kind.CUT: f"({self.silence})"}[self.kind]


def planned_strikes(seed: int, count: int) -> list[PlannedStrike]:
    """Draw the strikes of a run: the same for the same seed, and the first ones the same for every count."""
    chance = random.Random(f"strikes of {seed}")
    drawn = []
    for _ in range(count):
        kind, victim = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        drawn.append(PlannedStrike(kind, victim, chance.randint(*FREEZE_SECONDS), chance.choice(list(Silence))))
    return drawn


@dataclass(frozen=True)
class Strike:
    """One strike: what, whom, and between which two moments it began (time zone aware)."""

    kind: Kind
    victim: Victim
    began: datetime
    ended: datetime
    how: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.victim, self.how)))


@dataclass
class Striker:
    """Strikes processes of a stack, and starts again what does not start by itself."""

    stack: Stack
    proxy: SilentProxy
    chance: random.Random
    strikes: list[Strike] = field(default_factory=list)
    _frozen: list[psutil.Process] = field(default_factory=list)

    def strike(self, wanted: PlannedStrike) -> Strike:
        """One strike as planned, or of the triggerer if the victim is not there for a while."""
        victim = wanted.victim
        if not wait_until(lambda: bool(self._find(wanted.kind, victim)), LONGEST_WAIT_FOR_A_VICTIM):
            victim = Victim.TRIGGERER
        began = datetime.now(UTC)
        part = self._act(wanted, victim)
        self.strikes.append(Strike(wanted.kind, victim, began, datetime.now(UTC), wanted.how))
        if part:
            part.start()
        return self.strikes[-1]

    def thaw(self, processes: Sequence[psutil.Process] | None = None) -> None:
        """Let these frozen processes go on, or all."""
        for process in list(self._frozen) if processes is None else processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def _act(self, wanted: PlannedStrike, victim: Victim) -> Part | None:
        """Do it, and give the part that has to be started again, if it is one."""
        if wanted.kind is Kind.CUT:
            found = self._find(Kind.CUT, victim)
            ports = None if victim is Victim.EVERYBODY else self._ports(self._choose(victim, found))
            self.proxy.cut(ports, wanted.silence)
        elif wanted.kind is Kind.FREEZE:
            self._freeze(self._choose(victim, self._find(Kind.FREEZE, victim)), wanted.seconds)
        elif part := self._part(victim):
            part.kill()
            return part
        else:
            for process in self._choose(victim, self._find(Kind.KILL, victim)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        return None

    def _freeze(self, processes: Sequence[psutil.Process], seconds: float) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        self._frozen += processes
        timer = threading.Timer(seconds, self.thaw, [processes])
        timer.daemon = True
        timer.start()

    def _choose(self, victim: Victim, found: list[psutil.Process]) -> list[psutil.Process]:
        """One of several slice tasks or workers; of a part all its processes."""
        if victim in (Victim.SLICE_TASK, Victim.WORKER):
            return [self.chance.choice(found)] if found else []
        return found

    def _find(self, kind: Kind, victim: Victim) -> list[psutil.Process]:
        """Find the victim's processes that the strike would change at this moment."""
        if victim is Victim.EVERYBODY:
            return [psutil.Process()] if self.proxy.client_ports() else []
        if victim is Victim.SLICE_TASK:
            found = slice_tasks(self.stack)
        elif victim is Victim.WORKER:
            found = workers(self.stack)
        elif victim is Victim.TRIGGERER:
            found = triggerer(self.stack)
        else:
            part = self._part(victim)
            found = [psutil.Process(part.pid)] if part and part.pid else []
        if kind is Kind.FREEZE:
            return [process for process in found if not is_frozen(process)]
        return [process for process in found if self._ports([process])] if kind is Kind.CUT else found

    def _ports(self, processes: Sequence[psutil.Process]) -> set[int]:
        """The processes' own ports of their connections to the warehouse that work."""
        own = {port for process in processes for port in warehouse_ports(process, self.proxy.port)}
        return own & set(self.proxy.client_ports())

    def _part(self, victim: Victim) -> Part | None:
        parts: dict[Victim, Part | None] = {
            Victim.TRIGGERER: self.stack.triggerer,
            Victim.SCHEDULER: self.stack.scheduler,
            Victim.API_SERVER: self.stack.api_server,
            Victim.POSTGRES: self.stack.postgres,
            Victim.SANDBOX: self.stack.sandbox,
        }
        return parts.get(victim)


def workers(stack: Stack) -> list[psutil.Process]:
    """The executor's worker processes that are at work: children of the scheduler with a child of their own.

    An idle one is spared. It holds the lock of the executor's queue while it waits, so killing it stops all the others
    until the scheduler is restarted; that shows nothing of this project.
    """
    return [worker for worker in _executor(stack) if _children([worker])]


def slice_tasks(stack: Stack) -> list[psutil.Process]:
    """Processes that run a task at this moment: children of the executor's workers."""
    return _children(_executor(stack))


def triggerer(stack: Stack) -> list[psutil.Process]:
    """Both processes of the triggerer: the one that was started, and the one that it runs the triggers in."""
    return [process for first in _process(stack.triggerer) for process in (first, *_children([first]))]


def is_frozen(process: psutil.Process) -> bool:
    """Whether a process was stopped by a signal; one that has ended is not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def warehouse_ports(process: psutil.Process, proxy_port: int) -> Iterator[int]:
    """A process's own ports of its connections to the proxy, also of those that were cut."""
    with suppress(psutil.NoSuchProcess):
        for connection in process.net_connections("tcp"):
            if connection.raddr and connection.raddr.port == proxy_port:
                yield connection.laddr.port


def _executor(stack: Stack) -> list[psutil.Process]:
    return _children(_process(stack.scheduler))


def _process(part: ChildProcess) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [psutil.Process(part.pid)] if part.pid else []
    return []


def _children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += process.children()
    return sorted(found, key=lambda process: process.pid)
