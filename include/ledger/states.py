"""The states of the ledger, one enum each.

The database holds these values: change one only with a migration.
"""

from enum import StrEnum


class ReservationState(StrEnum):
    """The state of one order key; ``passport_ops.reservation.state``."""

    PENDING = "pending"  # wants a link, nobody is asking
    CALLING = "calling"  # an intent is committed, its lease may still run
    RESERVED = "reserved"  # has its link
    CLAIMED = "claimed"  # its customer owns the passport
    OUT_OF_STOCK = "out_of_stock"  # the tag was empty when it was asked
    UNKNOWN = "unknown"  # a call's outcome is unknown: a passport may have been consumed
    HELD = "held"  # a person must decide
    CANCELLED = "cancelled"  # the order is no longer eligible and never had a link
    CLOSED = "closed"  # a person decided: no link
    RESET = "reset"  # its link was taken back


ASKED_BY_RUNS = [
    ReservationState.PENDING,
    ReservationState.CALLING,
    ReservationState.OUT_OF_STOCK,
    ReservationState.UNKNOWN,
]
"""States of an order that a run asks a link for."""

UNSERVED = [*ASKED_BY_RUNS, ReservationState.HELD]
"""States of an order that still waits for a link; a held one waits for a person first."""

SERVED = (ReservationState.RESERVED, ReservationState.CLAIMED, ReservationState.RESET)
"""States of an order that has, or had, a link."""


class PassportState(StrEnum):
    """What became of one passport received; ``passport_ops.passport.state``."""

    ASSIGNED = "assigned"  # an order's
    WITHHELD = "withheld"  # an order's, but its connection does not accept the link
    SPARE = "spare"  # nobody's; used before the next call for its tag
    CLAIMED = "claimed"  # owned by a customer
    ENDED = "ended"  # reset, from an older epoch, or a duplicate: never used


class TagState(StrEnum):
    """Whether a tag may be asked; ``passport_ops.tag.state``."""

    OPEN = "open"
    RESETTING = "resetting"
