"""Render the page as HTML: Jinja templates with autoescape, one stylesheet, no script.

Nothing here reads from a database; ``include.page.reading`` does. Addresses are relative, so the page works under any
sub-path.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from itertools import groupby
from operator import attrgetter
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from include.ledger.states import SERVED, ReservationState
from include.page.reading import BAR_STATES, Asked, Attention, Content, Day, Order

STATES = {
    ReservationState.CLAIMED: ("claimed", "Its customer owns the passport."),
    ReservationState.RESERVED: ("reserved", "It has its link, which nobody has claimed yet."),
    ReservationState.RESET: (
        "taken back",
        "It had a link that was taken back; the customer can no longer claim with it.",
    ),
    ReservationState.CALLING: (
        "being asked for",
        "The NMP is being asked for its link. If that process died, the next run takes over once the lease ends.",
    ),
    ReservationState.PENDING: (
        "waiting",
        "It waits for a link; nobody is asking. The next run that serves its day asks.",
    ),
    ReservationState.OUT_OF_STOCK: (
        "out of stock",
        "Its tag was empty when it was asked. Mint passports under the tag; the next scheduled run asks again.",
    ),
    ReservationState.UNKNOWN: (
        "outcome unknown",
        "A call may have consumed a passport that nobody saw. Clear the run of its day to ask again.",
    ),
    ReservationState.HELD: ("held", "A person must decide: run resolve_attention to release it or to close it."),
    ReservationState.CANCELLED: ("cancelled", "The shop no longer lists it as eligible, and it never had a link."),
    ReservationState.CLOSED: ("closed", "A person decided that it gets no link."),
}
"""What people call a state of the ledger, and what it means for the order."""

KINDS = {
    "claim_uncertain": "claim uncertain",
    "claimed_twice": "claimed twice",
    "day_not_read": "day not read",
    "duplicate": "duplicate certificate",
    "held": "held",
    "limit_reached": "limit on new links reached",
    "never_answered": "never answered",
    "not_carried": "not carried over",
    "not_published": "not published",
    "out_of_stock": "out of stock for a day",
    "pending": "waiting for a day",
    "recovery": "recovery open",
    "rejected": "row not taken",
    "reset": "reset not done",
    "resetting": "reset under way",
    "run_stopped": "run stopped",
    "tag_empty": "tag empty",
    "unknown": "outcome unknown",
    "went_back": "warehouse restored",
}
"""What people call a kind of ``passport.needs_attention``."""

ORDER_TIMES = {
    "ordered_at": "ordered",
    "reserved_at": "link reserved",
    "published_at": "published",
    "distributed_at": "sent to the customer",
    "claimed_at": "claimed",
    "reset_at": "taken back",
    "updated_at": "last changed",
}


def page_html(content: Content, asked: Asked, zone: ZoneInfo, notice: str = "") -> str:
    """Return the page as an HTML document; times are shown in ``zone``, ``notice`` is one sentence at its top."""

    def moment(value: datetime | None) -> Markup:
        if value is None:
            return Markup("–")  # noqa: RUF001 - the sign for nothing in a table
        local = value.astimezone(zone)
        return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M}</time>').format(value.isoformat(), local)

    def query(**changes: object) -> str:
        """Return the address of this page with some of its filters changed."""
        filters = {key: value for key, value in asdict(replace(asked, **changes)).items() if value}  # type: ignore[arg-type]
        return f"?{urlencode(filters)}" if filters else "./"

    return (
        _environment()
        .get_template("page.html")
        .render(
            content=content,
            asked=asked,
            zone=zone,
            notice=notice,
            moment=moment,
            query=query,
            totals=_totals(content),
            kinds=KINDS,
            states=STATES,
            bar_states=BAR_STATES,
            order_times=ORDER_TIMES,
        )
    )


def trouble_html(title: str, sentence: str) -> str:
    """Return an HTML document that says in one sentence why there is no page; ``sentence`` must hold no secret."""
    return _environment().get_template("trouble.html").render(title=title, sentence=sentence)


@dataclass(frozen=True)
class Segment:
    """One state's part of a day's bar, in thousandths of its width."""

    state: ReservationState
    start: int
    width: int


def segments(day: Day) -> Iterator[Segment]:
    """Yield the parts of a day's bar from left to right; they fill it without a gap."""
    before = 0
    for state, count in day.by_state.items():
        start = before * 1000 // day.orders
        before += count
        yield Segment(state, start, before * 1000 // day.orders - start)


def state_counts(by_state: dict[ReservationState, int]) -> str:
    """Say a day's states in words: ``37 reserved, 2 out of stock``."""
    return ", ".join(f"{_number(count)} {STATES[state][0]}" for state, count in by_state.items())


@dataclass(frozen=True)
class _Totals:
    orders: int
    published: int
    lacking: int
    attention: int


def _totals(content: Content) -> _Totals:
    days = content.days or []
    of_kinds = {row.kind: row.of_kind for row in content.attention or []}
    return _Totals(
        orders=sum(day.orders for day in days),
        published=sum(day.published for day in days),
        lacking=sum(day.lacking for day in days),
        attention=sum(of_kinds.values()),
    )


def _by_kind(rows: Iterable[Attention]) -> list[tuple[str, list[Attention]]]:
    return [(kind, list(of_kind)) for kind, of_kind in groupby(rows, attrgetter("kind"))]


def _meaning(order: Order) -> str:
    """Say in sentences what an order's state means."""
    state = ReservationState(order.state)
    meaning = STATES[state][1]
    if state in SERVED and order.published_at is None:
        return f"{meaning} The next load publishes it."
    return meaning


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"  # noqa: RUF001


def _percent(share: Decimal | float | None) -> str:
    return "–" if share is None else f"{share:.1%}"  # noqa: RUF001


def _sentence(text: str | None) -> str:
    return text[:1].upper() + text[1:] if text else ""


def _weekday(day: date) -> str:
    return f"{day:%a}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("include.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "by_kind": _by_kind,
        "meaning": _meaning,
        "number": _number,
        "percent": _percent,
        "segments": segments,
        "sentence": _sentence,
        "state_counts": state_counts,
        "weekday": _weekday,
    }
    return environment
