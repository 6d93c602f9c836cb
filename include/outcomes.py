"""What an answer of the reserve call means: one table.

Which state an order gets after an answer is not here but in ``include/ledger/transitions.py``.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class AttemptOutcome(StrEnum):
    """What one call meant in the end; ``passport_ops.attempt.outcome`` (null while the call is under way).

    The database holds these values: change one only with a migration.
    """

    NOT_SENT = "not_sent"  # the request never left, and that is certain
    RESERVED = "reserved"  # a link for its order
    OUT_OF_STOCK = "out_of_stock"  # the tag is empty
    THROTTLED = "throttled"  # 429, or 503 with Retry-After
    REFUSED = "refused"  # 401, 403, 404, 405 and any other 4xx
    REDIRECTED = "redirected"  # 3xx
    UNKNOWN = "unknown"  # nobody can say whether a passport was consumed
    UNREADABLE = "unreadable"  # 200 without a readable link
    WRONG_LINK = "wrong_link"  # 200 with a link of the wrong host or environment
    # Only the ledger can tell these three from RESERVED: it knows the other orders, the fence and the epoch.
    DUPLICATE = "duplicate"  # 200 with a certificate that is another order's
    SPARE = "spare"  # 200 for an order that no longer needs the link: kept as a spare
    ENDED = "ended"  # 200 from before a reset of its tag: never used


class Consumed(StrEnum):
    """Whether the NMP gave a passport away for a call."""

    NO = "no"
    POSSIBLY = "possibly"
    YES = "yes"


@dataclass(frozen=True)
class Meaning:
    """One row of the table: what an outcome means for the order's budget of calls, its tag and its run."""

    consumed: Consumed
    stops_run: bool = False  # this start of the run makes no further call
    is_refusal: bool = False  # stops it too: the first such answer before a usable one, later several in a row
    marks_tag_empty: bool = False  # this start of the run makes no further call for the tag
    slows_pace: bool = False  # halve the pace
    usable: bool = False  # proves that key and route work, so that the run may make several calls at once
    keeps_raw: bool = False  # keep the raw answer for a person instead of erasing it

    @property
    def uses_budget(self) -> bool:
        """Whether the call counts towards ``max_calls_per_order``: yes, unless it certainly consumed nothing."""
        return self.consumed is not Consumed.NO


MEANINGS = MappingProxyType(
    {
        AttemptOutcome.NOT_SENT: Meaning(Consumed.NO),
        AttemptOutcome.RESERVED: Meaning(Consumed.YES, usable=True),
        AttemptOutcome.OUT_OF_STOCK: Meaning(Consumed.NO, marks_tag_empty=True, usable=True),
        AttemptOutcome.THROTTLED: Meaning(Consumed.NO, slows_pace=True),
        AttemptOutcome.REFUSED: Meaning(Consumed.NO, is_refusal=True),
        AttemptOutcome.REDIRECTED: Meaning(Consumed.POSSIBLY, is_refusal=True),
        AttemptOutcome.UNKNOWN: Meaning(Consumed.POSSIBLY),
        AttemptOutcome.UNREADABLE: Meaning(Consumed.YES, keeps_raw=True),
        AttemptOutcome.WRONG_LINK: Meaning(Consumed.YES, stops_run=True),
        AttemptOutcome.DUPLICATE: Meaning(Consumed.YES, usable=True),
        AttemptOutcome.SPARE: Meaning(Consumed.YES, usable=True),
        AttemptOutcome.ENDED: Meaning(Consumed.YES, usable=True),
    }
)
"""What each outcome means."""
