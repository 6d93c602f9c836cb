"""What goes wrong in a chaos run: the NMP's faults, and which process is killed when. A seed reproduces both."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import psutil
import psycopg

from include.local.stack import Stack
from include.sandbox.faults import Fault, FaultRule

FAULTS = [
    FaultRule(fault=Fault.LOST_ANSWER, probability=0.05),
    FaultRule(fault=Fault.SERVER_ERROR_BEFORE, probability=0.03),
    FaultRule(fault=Fault.SERVER_ERROR_AFTER, probability=0.03),
    FaultRule(fault=Fault.CONNECTION_RESET, probability=0.02),
    FaultRule(fault=Fault.TRUNCATED, probability=0.01),
    FaultRule(fault=Fault.REDIRECT, probability=0.01),
    FaultRule(fault=Fault.DRIP, probability=0.01, seconds=1.0),
    FaultRule(fault=Fault.TOO_MANY_REQUESTS, probability=0.001, burst=10, retry_after=1),
    FaultRule(fault=Fault.DUPLICATE, probability=0.002, limit=1),
]
"""The mix; a redirect stops its run, so runs are cleared again and again."""

AMBIGUOUS = (
    Fault.LOST_ANSWER,
    Fault.SERVER_ERROR_BEFORE,
    Fault.SERVER_ERROR_AFTER,
    Fault.CONNECTION_RESET,
    Fault.TRUNCATED,
    Fault.DRIP,
)
"""After these nobody can know whether a passport was consumed (a redirect is counted apart)."""


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
    Victim.SLICE_TASK: 8,
    Victim.WORKER: 3,
    Victim.TRIGGERER: 4,
    Victim.SCHEDULER: 2,
    Victim.API_SERVER: 2,
    Victim.POSTGRES: 3,
    Victim.SANDBOX: 3,
}


@dataclass
class Killer:
    """Kills processes of a stack, one at a time, and starts again what does not start by itself."""

    stack: Stack
    chance: random.Random
    say: Callable[[str], None]
    kills: list[Victim] = field(default_factory=list)
    calls_at_kills: int = 0

    def strike(self) -> None:
        """One kill, by the seed's choice among the kinds of process that are there at this moment."""
        there = {victim: weight for victim, weight in WEIGHTS.items() if self._is_there(victim)}
        victim = self.chance.choices(list(there), list(there.values()))[0]
        self.calls_at_kills += self._calls_under_way()
        self._kill(victim)
        self.kills.append(victim)
        self.say(f"kill {len(self.kills)}: {victim}")

    def _is_there(self, victim: Victim) -> bool:
        if victim is Victim.SLICE_TASK:
            return bool(slice_tasks(self.stack))
        return victim is not Victim.WORKER or bool(workers(self.stack))

    def _kill(self, victim: Victim) -> None:
        if victim in (Victim.SLICE_TASK, Victim.WORKER):
            found = slice_tasks(self.stack) if victim is Victim.SLICE_TASK else workers(self.stack)
            if found:
                kill(self.chance.choice(found))
            return
        part = {
            Victim.TRIGGERER: self.stack.triggerer,
            Victim.SCHEDULER: self.stack.scheduler,
            Victim.API_SERVER: self.stack.api_server,
            Victim.POSTGRES: self.stack.postgres,
            Victim.SANDBOX: self.stack.sandbox,
        }[victim]
        assert part is not None
        part.kill()
        part.start()

    def _calls_under_way(self) -> int:
        query = "select count(*) from passport_ops.reservation where state = 'calling'"
        with psycopg.connect(self.stack.warehouse_uri) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0


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
