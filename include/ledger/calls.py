"""The ledger as an engine that calls the NMP needs it: intents before calls, answers after them."""

from collections.abc import Mapping, Sequence

from include.ledger import granting, raw_answers, settling
from include.ledger.going_back import Memory, noticing
from include.ledger.granting import Caller, Grant
from include.ledger.intents import Intent
from include.ledger.refused_answers import write_or_set_aside
from include.ledger.run_starts import RunStart
from include.ledger.session import LedgerSession
from include.ledger.settling import Settled
from include.nmp.answers import RawAnswer, Reading
from include.warehouse.database import Connect, Connection


class CallLedger(LedgerSession):
    """Commits intents and answers for one ``caller``; each method is one transaction. See ``LedgerSession``.

    It remembers what it last knew of the ledger, from ``memory`` on, so that it notices when that went back in time.
    """

    def __init__(self, connect: Connect, caller: Caller, memory: Memory | None = None) -> None:
        super().__init__(connect)
        self._caller = caller
        self._memory = memory or Memory()
        self._intents: dict[int, Intent] = {}  # of calls that are not settled

    def _prepare(self, connection: Connection) -> None:
        raw_answers.prepare(connection)

    def grant(self, run: RunStart, order_keys: Sequence[str], *, slots: int) -> Grant:
        """Commit the intents of at most ``slots`` calls for these orders; see ``granting.grant``."""
        with noticing(self, self._memory), self.transaction() as connection:
            granted = granting.grant(connection, self._caller, run, order_keys, slots=slots, memory=self._memory)
        self._intents |= {intent.attempt_id: intent for intent in granted.intents}
        self._memory.remember(granted.warehouse_id, granted.grants, granted.intents[-1] if granted.intents else None)
        return granted

    def disown(self, under_way: Sequence[int]) -> int:
        """Free the orders of intents that this caller does not know of; see ``granting.disown``."""
        with noticing(self, self._memory), self.transaction() as connection:
            return granting.disown(connection, self._caller, under_way, self._memory)

    def keep_answers(self, answers: Mapping[int, RawAnswer]) -> None:
        """Commit raw answers, by attempt, before anybody reads them; see ``raw_answers.keep_answers``."""
        write_or_set_aside(self._keep, answers, raw_answers.what_can_be_kept)

    def kept_answers(self, attempt_ids: Sequence[int]) -> dict[int, RawAnswer]:
        """Give raw answers that a dead process wrote and did not read, and links that were withheld, by attempt."""
        with self.transaction() as connection:
            withheld = raw_answers.withheld_answers(connection, attempt_ids)
            kept = raw_answers.kept_answers(connection, attempt_ids)
        self._intents |= {intent.attempt_id: intent for intent, _ in kept}
        return withheld | {intent.attempt_id: raw for intent, raw in kept}

    def unread_answers(self, most: int = 500) -> list[int]:
        """Give attempts whose lease is over and whose raw answer nobody has read; at most ``most``."""
        with self.transaction() as connection:
            return [attempt_id for _, attempt_id in raw_answers.unread_answers(connection, most=most)]

    def settle(self, readings: Mapping[int, Reading]) -> list[Settled]:
        """Write what answers mean, by attempt, and erase the raw ones; see ``settling.settle``.

        An answer that the ledger refuses for good is settled as unreadable: its order is held, its raw answer stays.
        """
        return write_or_set_aside(self._settle, readings, settling.refused)

    def _keep(self, answers: Mapping[int, RawAnswer]) -> list[None]:
        with self.transaction() as connection:
            raw_answers.keep_answers(connection, answers, self._intents)
        return []

    def _settle(self, readings: Mapping[int, Reading]) -> list[Settled]:
        intents = {key: self._intents[key] for key in readings if key in self._intents}
        with self.transaction() as connection:
            settled = settling.settle(connection, readings, intents)
        for done in settled:
            if done.attempt_id in intents:
                self._memory.remember_settled(intents[done.attempt_id])
        for key in intents:
            del self._intents[key]
        return settled
