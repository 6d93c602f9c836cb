"""What callers and customers ask of the platform, and the history entry that it keeps of each request."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from sandbox.faults import CallKind
from sandbox.switches import TagRule


class CustomerAct(StrEnum):
    """What a customer can do with a link; the history has these beside the calls."""

    CLAIM = "claim"
    SCAN = "scan"


class ActOutcome(StrEnum):
    """The result of a scan or a claim."""

    DONE = "done"
    ALREADY_CLAIMED = "already_claimed"
    NOT_VALID = "not_valid"  # unknown certificate, or a passphrase that is wrong or was replaced


class LinkFormat(StrEnum):
    """The ``format`` of reserveOne."""

    LINK = "link"
    LINK_OBJECT = "linkObject"


@dataclass(frozen=True, slots=True)
class Call:
    """One NMP call. ``user`` is the key's owner, None if the key is missing or unknown."""

    kind: CallKind
    user: str | None = None
    has_key: bool = False
    tags: tuple[str, ...] = ()
    format: LinkFormat = LinkFormat.LINK_OBJECT
    tag_rule: TagRule = TagRule.AND  # of a list or a count
    certificate_id: int | None = None  # of a replacement
    passphrase: str | None = None
    request_id: str | None = None  # what the caller sent as x-request-id; the NMP itself ignores it


@dataclass(slots=True)
class HistoryEntry:
    """One call, scan or claim, in the order in which they took effect. ``time`` is epoch seconds, UTC."""

    seq: int
    time: float
    kind: str  # a CallKind or a CustomerAct
    tag: str  # the tags of the call, or of the passport, joined by commas
    certificate_id: str | None = None  # as a string: ids have up to 11 digits
    link_sha256: str | None = None  # of the exact link, without a trailing newline
    outcome: int | str | None = None  # HTTP status; None: no answer was sent; an ActOutcome for a claim or a scan
    fault: str | None = None
    epoch: int = 0  # how often the (first) tag was reset before
    repeated: bool = False  # the certificate was given before and is live: nothing new was given
    certificates: list[str] | None = None  # those that a reset took back
    request_id: str | None = None  # the caller's own name for the call, if it sent one


def parse_link(link: str) -> tuple[int, str]:
    """Give the certificate id and passphrase of a link in any of its forms; raises ValueError for anything else."""
    fields = urlsplit(link.strip()).path.rsplit("/", 1)[-1].split(",")
    if len(fields) < 2 or not fields[0].isdecimal():
        message = "this is not a link; give https://host/certificateId,passphrase"
        raise ValueError(message)
    return int(fields[0]), fields[1]
