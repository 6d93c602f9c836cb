"""What tests of resets share: campaigns, and tags whose links are all stale."""

from datetime import UTC, datetime
from typing import Any

from include.campaigns import Campaign
from tests.builders.ledger_rows import DAY, LedgerRows

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def campaign(name: str = "gift", **fields: Any) -> Campaign:
    return Campaign(**{"name": name, "tag": "t", "products": "*", "stale_after": "1d", "reset": "when_stale", **fields})


def tag_of(rows: LedgerRows, tag: str) -> tuple[Any, ...]:
    return rows.one("select state, epoch, resetting_since is null from passport_ops.tag where tag = %s", tag)


def stale_tag(rows: LedgerRows, tag: str = "gift", links: int = 2, **options: Any) -> list[str]:
    """Add a tag whose links are all stale and whose claims are just synced; give the certificates of its links."""
    certificates = [rows.link(f"{tag}-{n}", tag, age=40 * DAY, **options) for n in range(1, links + 1)]
    rows.sync_now(tag)
    return certificates
