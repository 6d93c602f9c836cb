from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.campaigns import ResetPolicy
from include.ledger.states import TagState
from include.resets.planning import ResetDecision, ResetError, TagStock, plan, plan_resets, read_stocks
from tests.builders.ledger_rows import DAY, LedgerRows
from tests.include.resets.stale_tags import LONG_AGO, campaign, stale_tag, tag_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def stock(**fields: Any) -> TagStock:
    """Make the stock of a tag whose links are all stale and whose claims are synced; ``fields`` change that."""
    return TagStock(
        **{
            "tag": "gift",
            "state": TagState.OPEN,
            "epoch": 0,
            "claims_synced_at": NOON,
            "stale_after": 30 * DAY,
            "live": 3,
            "younger": 0,
            "free_at": NOON - DAY,
            "youngest_order_key": "A1",
            "campaigns": ["gift"],
            "spares": 1,
            "asked_at": NOON,
            **fields,
        }
    )


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_wholly_stale_tag_whose_campaign_wants_it_is_reset() -> None:
    (made,) = plan([stock()], [campaign()], synced_since=NOON)
    assert (made.decision, str(made)) == (
        ResetDecision.RESET,
        "gift: reset; 3 links unclaimed for 30 days, and 1 spares",
    )


def test_a_younger_link_blocks_its_tag_and_the_plan_says_how_many_whose_and_until_when() -> None:
    young = stock(younger=2, free_at=NOON + 3 * DAY, youngest_order_key="B7")
    (made,) = plan([young], [campaign()], synced_since=NOON)
    assert str(made) == (
        "gift: blocked; 2 of its 3 links are younger than 30 days, the youngest order B7's; "
        "free at 2026-11-26 12:00 UTC"
    )


@pytest.mark.parametrize("synced_at", [None, NOON - SECOND])
def test_a_tag_whose_claims_were_not_synced_in_this_run_is_blocked(synced_at: datetime | None) -> None:
    (made,) = plan([stock(claims_synced_at=synced_at)], [campaign()], synced_since=NOON, sandbox=True)
    assert (made.decision, made.why) == (
        ResetDecision.BLOCKED,
        "its claims were not read in this run: clear sync_claims",
    )


@pytest.mark.parametrize("dry_run", [None, False])
def test_without_a_reset_policy_a_stale_tag_is_only_shown_whatever_the_form_says(dry_run: bool | None) -> None:
    (made,) = plan([stock()], [campaign(reset=None)], synced_since=NOON, dry_run=dry_run)
    assert made.decision is ResetDecision.DRY_RUN
    assert made.why.endswith("campaign 'gift' sets no reset policy: write reset: when_stale into the campaign file")


def test_against_the_sandbox_no_policy_is_needed() -> None:
    (made,) = plan([stock()], [campaign(reset=None)], synced_since=NOON, sandbox=True)
    assert made.decision is ResetDecision.RESET


def test_every_campaign_with_a_link_under_the_tag_must_want_the_reset() -> None:
    both = [campaign("gift"), campaign("other", reset=None)]
    (made,) = plan([stock(campaigns=["gift", "other"])], both, synced_since=NOON)
    assert made.decision is ResetDecision.DRY_RUN
    assert "'other'" in made.why


def test_a_campaign_that_is_no_longer_in_the_file_wants_nothing() -> None:
    (made,) = plan([stock(campaigns=["gone"])], [campaign()], synced_since=NOON)
    assert made.decision is ResetDecision.DRY_RUN


def test_never_means_never_in_the_sandbox_too() -> None:
    (made,) = plan([stock()], [campaign(reset="never")], synced_since=NOON, sandbox=True, dry_run=False)
    assert (made.decision, made.why) == (ResetDecision.BLOCKED, "campaign 'gift' says reset: never")


def test_an_unfinished_reset_is_resumed_but_not_by_a_dry_run() -> None:
    unfinished = stock(state=TagState.RESETTING, live=0, free_at=None, stale_after=None, campaigns=[])
    resumed, shown = (plan([unfinished], [], synced_since=NOON, dry_run=dry)[0].decision for dry in (None, True))
    assert (resumed, shown) == (ResetDecision.RESUME, ResetDecision.BLOCKED)


@given(
    free_in=st.integers(-3, 3),
    synced=st.sampled_from([None, NOON - SECOND, NOON, NOON + SECOND]),
    live=st.integers(0, 2),
    policies=st.lists(st.sampled_from([*ResetPolicy, None]), min_size=1, max_size=3),
    dry_run=st.sampled_from([None, True, False]),
    sandbox=st.booleans(),
)
def test_a_plan_never_resets_against_youth_old_claims_policy_or_a_dry_run(
    free_in: int,
    synced: datetime | None,
    live: int,
    policies: list[ResetPolicy | None],
    dry_run: bool | None,
    sandbox: bool,
) -> None:
    campaigns = [campaign(f"c{n}", reset=policy) for n, policy in enumerate(policies)]
    met = stock(
        free_at=NOON + free_in * SECOND if live else None,
        claims_synced_at=synced,
        live=live,
        campaigns=[each.name for each in campaigns] if live else [],
    )
    (made,) = plan([met], campaigns, synced_since=NOON, dry_run=dry_run, sandbox=sandbox)
    wanted = sandbox or all(policy is ResetPolicy.WHEN_STALE for policy in policies)
    allowed = ResetPolicy.NEVER not in policies and wanted and dry_run is not True
    stale = live > 0 and free_in <= 0 and synced is not None and synced >= NOON
    assert (made.decision is ResetDecision.RESET) == (allowed and stale)
    assert made.why


# -- what a plan reads -------------------------------------------------------------------------------------------------


def test_a_link_is_as_old_as_its_distribution_or_else_its_reservation(rows: LedgerRows) -> None:
    rows.link("mailed", "mailed", age=40 * DAY, distributed=10 * DAY)
    rows.link("unmailed", "unmailed", age=40 * DAY)
    mailed, unmailed = read_stocks(rows.connection, [])
    assert (mailed.live, mailed.younger, mailed.youngest_order_key) == (1, 1, "mailed")
    assert mailed.free_at is not None
    assert abs(mailed.free_at - (mailed.asked_at + 20 * DAY)) < timedelta(minutes=1)
    assert (unmailed.live, unmailed.younger) == (1, 0)


def test_where_two_campaigns_share_a_tag_the_longest_stale_after_counts_for_both(rows: LedgerRows) -> None:
    rows.link("patient", "gift", campaign="slow", age=100 * DAY, stale_after=90 * DAY)
    rows.link("hasty", "gift", campaign="fast", age=40 * DAY, stale_after=30 * DAY)
    (met,) = read_stocks(rows.connection, [])
    assert (met.stale_after, met.live, met.younger, met.youngest_order_key) == (90 * DAY, 2, 1, "hasty")
    assert sorted(met.campaigns) == ["fast", "slow"]


def test_a_campaign_that_shares_the_tag_counts_though_its_orders_have_no_link_yet(rows: LedgerRows) -> None:
    rows.link("hasty", "gift", campaign="fast", age=40 * DAY, stale_after=30 * DAY)
    rows.order("waiting", "gift", campaign="slow", stale_after=90 * DAY)
    (met,) = read_stocks(rows.connection, [])
    assert (met.stale_after, met.younger) == (90 * DAY, 1)


def test_what_the_file_says_counts_for_such_a_campaign_too(rows: LedgerRows) -> None:
    rows.link("hasty", "gift", campaign="fast", age=40 * DAY, stale_after=30 * DAY)
    rows.order("waiting", "gift", campaign="slow", stale_after=30 * DAY)
    (met,) = read_stocks(rows.connection, [campaign("slow", stale_after="90d")])
    assert (met.stale_after, met.younger) == (90 * DAY, 1)


def test_raising_stale_after_in_the_file_protects_links_that_are_out_and_lowering_it_takes_nothing_away(
    rows: LedgerRows,
) -> None:
    rows.link("A1", "gift", age=40 * DAY, stale_after=30 * DAY)
    raised, lowered = (read_stocks(rows.connection, [campaign(stale_after=f"{days}d")])[0] for days in (60, 1))
    assert (raised.stale_after, raised.younger) == (60 * DAY, 1)
    assert (lowered.stale_after, lowered.younger) == (30 * DAY, 0)


def test_claimed_orders_and_tags_with_nothing_to_take_back_are_not_in_the_plan(rows: LedgerRows) -> None:
    rows.link("A1", "claimed", age=40 * DAY)
    rows.do("update passport_ops.passport set state = 'claimed'")
    rows.do("update passport_ops.reservation set state = 'claimed'")
    rows.passport("spares only")
    rows.order("B1", "waiting")
    assert read_stocks(rows.connection, []) == []


def test_a_dry_run_is_noted_once_and_changes_nothing(rows: LedgerRows) -> None:
    stale_tag(rows)
    for _ in range(2):
        (made,) = plan_resets(rows.uri, [campaign()], run_id="dry", synced_since=LONG_AGO, dry_run=True, tags=["gift"])
    assert made.decision is ResetDecision.DRY_RUN
    assert rows.all("select tag, run_id, dry_run, state, orders_reset, nmp_count from passport_ops.tag_reset") == [
        ("gift", "dry", True, "done", 2, None)
    ]
    assert (tag_of(rows, "gift"), rows.standing("gift-1")) == (("open", 0, True), ("reserved", True))


def test_a_tag_that_nobody_knows_is_refused_by_name(rows: LedgerRows) -> None:
    stale_tag(rows)
    with pytest.raises(ResetError, match="no order ever named the tag 'GIFT'"):
        plan_resets(rows.uri, [], run_id="r", synced_since=LONG_AGO, tags=["gift", "GIFT"])
