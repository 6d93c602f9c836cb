"""What goes wrong in a chaos run: the NMP's faults, and which process is killed when. A seed reproduces both."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import psutil

from local.processes import Part
from local.stack import Stack
from sandbox.faults import Fault, FaultRule

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
"""The mix. One call in a hundred is redirected, five in a row, as by a gateway that is set up wrong for a moment: each
redirect stops its run, and one at a time they would leave little but runs that start."""

LATENCY_MILLISECONDS = (50, 300)
"""How long an answer takes, so that a kill finds calls under way."""


class Victim(StrEnum):
    """What is killed."""

    SLICE_TASK = "slice task"
    WORKER = "executor worker"
    TRIGGERER = "triggerer"
    SCHEDULER = "scheduler"
    API_SERVER = "API server"
    POSTGRES = "PostgreSQL"
    SANDBOX = "sandbox"


WEIGHTS = {
    Victim.SLICE_TASK: 12,
    Victim.WORKER: 6,
    Victim.TRIGGERER: 4,
    Victim.SCHEDULER: 2,
    Victim.API_SERVER: 2,
    Victim.POSTGRES: 3,
    Victim.SANDBOX: 3,
}


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: whose, and between which two moments (time zone aware)."""

    victim: Victim
    began: datetime
    ended: datetime


@dataclass
class Killer:
    """Kills processes of a stack, one at a time, and starts again what does not start by itself."""

    stack: Stack
    chance: random.Random
    kills: list[Kill] = field(default_factory=list)

    def kill_one(self) -> Kill:
        """One kill, by the seed's choice among the kinds of process that are there at this moment."""
        there = {victim: weight for victim, weight in WEIGHTS.items() if self._is_there(victim)}
        victim = self.chance.choices(list(there), list(there.values()))[0]
        began = datetime.now(UTC)
        part = self._kill(victim)
        self.kills.append(Kill(victim, began, datetime.now(UTC)))
        if part:
            part.start()
        return self.kills[-1]

    def _is_there(self, victim: Victim) -> bool:
        if victim is Victim.SLICE_TASK:
            return bool(slice_tasks(self.stack))
        return victim is not Victim.WORKER or bool(workers(self.stack))

    def _kill(self, victim: Victim) -> Part | None:
        """Kill it and give the part that has to be started again, if it is one."""
        if victim in (Victim.SLICE_TASK, Victim.WORKER):
            found = slice_tasks(self.stack) if victim is Victim.SLICE_TASK else workers(self.stack)
            if found:
                kill(self.chance.choice(found))
            return None
        part = {
            Victim.TRIGGERER: self.stack.triggerer,
            Victim.SCHEDULER: self.stack.scheduler,
            Victim.API_SERVER: self.stack.api_server,
            Victim.POSTGRES: self.stack.postgres,
            Victim.SANDBOX: self.stack.sandbox,
        }[victim]
        assert part is not None
        part.kill()
        return part


def workers(stack: Stack) -> list[psutil.Process]:
    """The executor's worker processes that are at work: children of the scheduler with a child of their own.

    An idle one is spared. It holds the lock of the executor's queue while it waits, so killing it stops all the others
    until the scheduler is restarted; that shows nothing of this project.
    """
    return [worker for worker in _executor(stack) if _children([worker])]


def slice_tasks(stack: Stack) -> list[psutil.Process]:
    """Processes that run a task at this moment: children of the executor's workers."""
    return _children(_executor(stack))


def _executor(stack: Stack) -> list[psutil.Process]:
    return _children([psutil.Process(stack.scheduler.pid)]) if stack.scheduler.pid else []


def _children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in processes:
        try:
            found += process.children()
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda process: process.pid)


def kill(process: psutil.Process) -> None:
    """SIGKILL, if it still runs."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
