"""Claims: reading from the NMP which passports their customers own by now, and saying whose claim each one is.

Follows the NMP's page check-nft-claiming-status (getListOfSmartAssetsIdByTags: everything ever claimed under a tag, no
paging, an unknown tag gives an empty list) and "Claims" of the design. A certificate that a reset returned to the pool
may be handed out again, so a claim is judged by what was known first: seen before the certificate was handed out again
it is the earlier order's, later it is the current order's and uncertain.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import psycopg

from include.nmp.errors import NmpError
from include.sql_files import sql_of
from include.warehouse.database import Connect, open_session, safe_errors

sql = sql_of(__package__)
log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]


class ClaimsError(Exception):
    """The claims of some tags could not be read; the message names them and what to do."""


class ClaimLister(Protocol):
    """What a sync needs of the NMP; ``include.nmp.client.NmpClient`` is one."""

    def claimed_certificates(self, tag: str) -> set[str]:
        """Give the ids of all certificates ever claimed under a tag; raises ``include.nmp.errors.NmpError``."""
        ...


@dataclass(frozen=True)
class ClaimsOfTag:
    """What one sync changed for one tag.

    ``claimed`` orders whose link was claimed, and ``after_reset`` those whose link had been taken back before;
    ``uncertain`` of both perhaps by another holder of the certificate. ``second`` orders have a newer link besides the
    claimed one; ``worthless`` orders are held now, because their certificate was claimed before they got it; ``spares``
    ended. ``elsewhere`` counts the tag's claimed certificates that the ledger never received, ever.
    """

    tag: str
    claimed: int
    uncertain: int
    after_reset: int
    second: int
    worthless: int
    spares: int
    elsewhere: int

    def __str__(self) -> str:
        """Say it as one line of a log."""
        told = {
            "newly claimed": self.claimed,
            "claimed after a reset": self.after_reset,
            "uncertain among these": self.uncertain,
            "claimed beside a newer link": self.second,
            "held, because claimed before": self.worthless,
            "spares claimed": self.spares,
            "claimed elsewhere in all": self.elsewhere,
        }
        return f"{self.tag}: " + (
            ", ".join(f"{count} {what}" for what, count in told.items() if count) or "nothing new"
        )


@dataclass(frozen=True)
class Sync:
    """A finished sync; ``since`` is its start by the database's clock (time zone aware)."""

    since: datetime
    tags: Sequence[ClaimsOfTag]


def sync_claims(connect: Connect, nmp: ClaimLister, *, run_id: str, tags: Sequence[str] = ()) -> Sync:
    """Read the claims of every tag with links out (or of ``tags``) into the ledger, one transaction a tag.

    Safe to run again. Raises ``ClaimsError`` after all tags were tried when the list of some could not be read,
    ``include.warehouse.database.SafeDatabaseError`` when the database does not do its part.
    """
    with safe_errors("The claims could not be written"), open_session(connect, autocommit=True) as connection:
        since = _now(connection)
        synced: list[ClaimsOfTag] = []
        failed: dict[str, NmpError] = {}
        for tag in _tags(connection, tags):
            seen_at = _now(connection)
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


def apply_claims(
    connection: Connection, tag: str, certificates: Iterable[str], *, seen_at: datetime, run_id: str
) -> ClaimsOfTag:
    """Write one tag's list of claimed ``certificates`` into the ledger, in one transaction.

    ``seen_at`` is when the list was asked for, by the database's clock: a passport that its order got later than that,
    whose certificate the list holds, was claimed before. A certificate counts under whichever tag its passport was
    received.
    """
    seen = {"seen_at": seen_at, "run_id": run_id, "tag": tag}
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql("staging"))
        with cursor.copy(sql("copy_certificates")) as copy:
            for certificate in certificates:
                copy.write_row((certificate,))
        cursor.execute(sql("analyze"))
        cursor.execute(sql("lock_tag"), seen)
        cursor.execute(sql("lock_orders"))
        worthless = cursor.execute(sql("end_claimed_before"), seen).rowcount
        spares = cursor.execute(sql("end_spares"), seen).rowcount
        claimed = cursor.execute(sql("claim_live"), seen).fetchall()
        after_reset = cursor.execute(sql("claim_after_reset"), seen).fetchall()
        second = cursor.execute(sql("note_second_claim"), seen).rowcount
        saved = cursor.execute(sql("save_sync"), seen).fetchone()
    return ClaimsOfTag(
        tag=tag,
        claimed=len(claimed),
        uncertain=sum(uncertain for (uncertain,) in claimed + after_reset),
        after_reset=len(after_reset),
        second=second,
        worthless=worthless,
        spares=spares,
        elsewhere=saved[0] if saved else 0,
    )


def _tags(connection: Connection, tags: Sequence[str]) -> list[str]:
    return [tag for (tag,) in connection.execute(sql("tags"), {"tags": list(tags) or None})]


def _now(connection: Connection) -> datetime:
    now: datetime = connection.execute(sql("now")).fetchall()[0][0]
    return now
