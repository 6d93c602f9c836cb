"""The kinds of ``passport.needs_attention``, and what a person can decide about each."""

from enum import StrEnum


class Action(StrEnum):
    """What a person may decide."""

    RELEASE = "release"  # ask for a link again; a passport that was consumed unseen stays lost
    CLOSE = "close"  # this order gets no link
    ACKNOWLEDGE = "acknowledge"  # seen; it is shown again only if it happens again


class AttentionKind(StrEnum):
    """A kind of ``passport.needs_attention``."""

    CLAIM_UNCERTAIN = "claim_uncertain"
    CLAIMED_TWICE = "claimed_twice"
    DAY_NOT_READ = "day_not_read"
    DUPLICATE = "duplicate"
    HELD = "held"
    LIMIT_REACHED = "limit_reached"
    NEVER_ANSWERED = "never_answered"
    NOT_CARRIED = "not_carried"
    NOT_PUBLISHED = "not_published"
    OUT_OF_STOCK = "out_of_stock"
    PENDING = "pending"
    RECOVERY = "recovery"
    REJECTED = "rejected"
    RESET = "reset"
    RESETTING = "resetting"
    RUN_STOPPED = "run_stopped"
    TAG_EMPTY = "tag_empty"
    UNKNOWN = "unknown"
    WENT_BACK = "went_back"


_OF_ORDERS = {
    AttentionKind.HELD: (Action.RELEASE, Action.CLOSE),
    AttentionKind.UNKNOWN: (Action.RELEASE, Action.CLOSE),
    AttentionKind.PENDING: (Action.CLOSE,),
    AttentionKind.OUT_OF_STOCK: (Action.CLOSE,),
    AttentionKind.NOT_CARRIED: (Action.CLOSE,),
}
_LEAVE_BY_THEMSELVES = (
    AttentionKind.LIMIT_REACHED,
    AttentionKind.NEVER_ANSWERED,
    AttentionKind.NOT_PUBLISHED,
    AttentionKind.RECOVERY,
    AttentionKind.RESETTING,
    AttentionKind.TAG_EMPTY,
    AttentionKind.WENT_BACK,
)

ACTIONS: dict[AttentionKind, tuple[Action, ...]] = {
    kind: _OF_ORDERS.get(kind, () if kind in _LEAVE_BY_THEMSELVES else (Action.ACKNOWLEDGE,)) for kind in AttentionKind
}
"""What a person can decide about the lines of a kind. Those of none leave when what they ask for is done."""
