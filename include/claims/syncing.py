"""Sync claims: read from the NMP which passports their customers own by now, and write whose claim each one is.

The NMP lists every certificate that was ever claimed under a tag, all at once; for an unknown tag the list is empty.
After a reset it can give a certificate again. So what was known first decides whose claim it is: a claim that was seen
before the certificate was given again is the earlier order's. A later claim is the current order's, and uncertain.
``docs/lifecycle.md`` has the table of claims.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from psycopg.rows import scalar_row

from include.nmp.errors import NmpError
from include.sql_files import sql_of
from include.warehouse.database import Connect, Connection, database_now, open_session, safe_errors
from include.warehouse.transactions import Kind, again_after_limit, limited_transaction

sql = sql_of(__package__)
log = logging.getLogger(__name__)


class ClaimsError(Exception):
    """The claims of some tags could not be read; the message names the tags and the last reason."""


class ClaimLister(Protocol):
    """What a sync needs of the NMP; ``include.nmp.client.NmpClient`` is one."""

    def claimed_certificates(self, tag: str) -> set[str]:
        """Return the ids of all certificates ever claimed under a tag; raises ``include.nmp.errors.NmpError``."""
        ...


@dataclass(frozen=True)
class ClaimsOfTag:
    """What one sync changed for one tag.

    ``claimed`` counts orders whose link was claimed, ``after_reset`` orders whose link was claimed after a reset had
    taken it back. ``uncertain`` counts those of both that another holder of the certificate may have claimed.
    ``second`` counts orders that have a newer link besides the claimed one. ``held`` counts orders that are held now,
    because their certificate was claimed before they got it. ``spares`` counts spares that ended. ``elsewhere`` counts
    all claimed certificates of the tag that the ledger never received.
    """

    tag: str
    claimed: int
    uncertain: int
    after_reset: int
    second: int
    held: int
    spares: int
    elsewhere: int

    def __str__(self) -> str:
        """Say it as one line of a log."""
        counts = {
            "newly claimed": self.claimed,
            "claimed after a reset": self.after_reset,
            "uncertain among these": self.uncertain,
            "claimed beside a newer link": self.second,
            "held, because claimed before": self.held,
            "spares claimed": self.spares,
            "claimed certificates that the ledger never received": self.elsewhere,
        }
        return f"{self.tag}: " + (
            ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing new"
        )


@dataclass(frozen=True)
class Sync:
    """A finished sync; ``since`` is its start by the database's clock, with a time zone."""

    since: datetime
    tags: Sequence[ClaimsOfTag]


def sync_claims(connect: Connect, nmp: ClaimLister, *, run_id: str, tags: Sequence[str] = ()) -> Sync:
    """Read the claims of every tag with links out (or of ``tags``) into the ledger, one transaction per tag.

    Safe to run again. When the claims of some tags cannot be read, tries all tags and then raises ``ClaimsError``;
    raises ``include.warehouse.database.SafeDatabaseError`` when the database fails.
    """
    with safe_errors("The claims could not be written"), open_session(connect, autocommit=True) as connection:
        since = database_now(connection)
        synced: list[ClaimsOfTag] = []
        failed: dict[str, NmpError] = {}
        for tag in _tags_to_sync(connection, tags):
            seen_at = database_now(connection)
            try:
                certificates = nmp.claimed_certificates(tag)
            except NmpError as error:
                log.warning("The claims of tag %s could not be read: %s", tag, error)
                failed[tag] = error
                continue
            synced.append(apply_claims(connection, tag, certificates, seen_at=seen_at, run_id=run_id))
            log.info("%s", synced[-1])
    if failed:
        named = ", ".join(failed)
        message = (
            f"the claims of {len(failed)} tags could not be read ({named}); the last reason: {failed.popitem()[1]}"
        )
        raise ClaimsError(message)
    return Sync(since, synced)


@again_after_limit
def apply_claims(
    connection: Connection, tag: str, certificates: Collection[str], *, seen_at: datetime, run_id: str
) -> ClaimsOfTag:
    """Write one tag's list of claimed ``certificates`` into the ledger, in one transaction, repeated after a limit.

    ``seen_at`` is when the NMP was asked for the list, by the database's clock: if an order got its passport later than
    that and the list has the certificate, somebody had claimed it before. A certificate counts under whichever tag its
    passport was received.
    """
    seen = {"seen_at": seen_at, "run_id": run_id, "tag": tag}
    with limited_transaction(connection, Kind.LONG), connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(sql("staging"))
        with cursor.copy(sql("copy_certificates")) as copy:
            for certificate in certificates:
                copy.write_row((certificate,))
        cursor.execute(sql("analyze"))
        cursor.execute(sql("last_holder"))
        cursor.execute(sql("lock_tag"), seen)
        cursor.execute(sql("lock_orders"))
        held = cursor.execute(sql("end_claimed_before"), seen).rowcount
        spares = cursor.execute(sql("end_spares"), seen).rowcount
        claimed: list[bool] = cursor.execute(sql("claim_live"), seen).fetchall()
        after_reset: list[bool] = cursor.execute(sql("claim_after_reset"), seen).fetchall()
        second = cursor.execute(sql("note_second_claim"), seen).rowcount
        elsewhere: int | None = cursor.execute(sql("save_sync"), seen).fetchone()
    return ClaimsOfTag(
        tag=tag,
        claimed=len(claimed),
        uncertain=sum(claimed) + sum(after_reset),
        after_reset=len(after_reset),
        second=second,
        held=held,
        spares=spares,
        elsewhere=elsewhere or 0,
    )


def _tags_to_sync(connection: Connection, tags: Sequence[str]) -> list[str]:
    return connection.cursor(row_factory=scalar_row).execute(sql("tags"), {"tags": list(tags) or None}).fetchall()
