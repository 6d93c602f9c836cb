"""The NMP's HTTP API (v1.7 to v2.1), one method for each call; no other module calls it.

Pages: reserve-nfts and individual-links (reserve), reset-reserved-nfts (reset_all), check-nft-claiming-status,
count-nfts-by-tags and get-nfts-list-by-tags (claims), make-your-certificate-claimable (replace_link).
"""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from requests import Request

from include.nmp.answers import BODY_LIMIT, CallFailure, RawAnswer, parsed_json, read_answer, why_no_answer, why_refused
from include.nmp.connection import NmpConnection
from include.nmp.errors import NmpError, NmpNotReachedError, NmpRefusedError, NmpUncertainError, NmpUnreadableError
from include.nmp.wire import Wire

LISTING_LIMIT = 64 * 1024 * 1024
"""Bytes of a list of claimed certificates, which comes in one piece: some five million ids."""

LISTING_SECONDS = 120.0
"""Total time of a call that is not a reservation; the NMP goes through whole tags for them."""

NO_SUCH_TAG = "passport-links-check-no-such-tag"
"""What `NmpClient.check` asks for: a tag that does not exist."""

_NUMBER = re.compile(r"[0-9]{1,78}")  # a token id has 256 bits


@dataclass(frozen=True)
class NewLink:
    """The link that replaced another one of a certificate; a secret like every link."""

    certificate_id: str
    link: str = field(repr=False)


class NmpClient:
    """Call one NMP; one client per process serves any number of threads at once.

    Takes a checked connection; ``connect_timeout`` (name lookup, TCP and TLS together) and ``read_timeout`` (the
    longest silence) are seconds. ``ca_bundle`` is a PEM file that replaces the trusted authorities, which are otherwise
    the system's and certifi's. Environment variables for proxies, .netrc and CA bundles are not read.
    """

    def __init__(
        self,
        connection: NmpConnection,
        *,
        connect_timeout: float = 5,
        read_timeout: float = 25,
        pool_size: int = 64,
        ca_bundle: Path | None = None,
    ) -> None:
        self.connection = connection
        self._wire = Wire(
            connect_timeout, read_timeout, pool_size=pool_size, encrypted=connection.encrypted, ca_bundle=ca_bundle
        )

    def reserve(self, tag: str, *, deadline: float) -> RawAnswer:
        """Ask for one passport of a tag: ``GET /dispenser/distribution/reserveOne``, exactly once.

        ``deadline`` is on ``time.monotonic()`` and limits the whole call, including the name lookup and an answer that
        comes byte by byte; it is checked again just before the first byte is sent. Gives the answer unread. Raises
        ValueError for a tag that cannot be sent, and nothing for a failure on the network.
        """
        return self._call("GET", "/dispenser/distribution/reserveOne", deadline, tag=tag, format="linkObject")

    def reset_all(self, tag: str) -> int:
        """Take back what is reserved and unclaimed under a tag: ``GET /dispenser/distribution/resetAll``.

        Gives the NMP's count, which may be lower than the number of reserved passports; 0 also for a tag that does not
        exist. Raises NmpError; if it is ``possibly_done``, the reset may have happened.
        """
        what = f"the reset of tag {tag!r}"
        deadline = time.monotonic() + LISTING_SECONDS
        raw = self._call("GET", "/dispenser/distribution/resetAll", deadline, tag=tag)
        return _count(self._answered(raw, what), what)

    def claimed_certificates(self, tag: str) -> set[str]:
        """Give the ids of all passports ever claimed under a tag: ``POST /certificate/getListOfSmartAssetsIdByTags``.

        An unknown tag gives an empty set. Raises NmpError.
        """
        what = f"the list of claimed passports of tag {tag!r}"
        result = self._claims("/certificate/getListOfSmartAssetsIdByTags", tag, what)
        ids = result.get("smartAssetsId") if isinstance(result, dict) else None
        if not isinstance(ids, list) or not all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in ids):
            raise _unreadable(what)
        return set(ids)

    def claimed_count(self, tag: str) -> int:
        """Count the passports ever claimed under a tag: ``POST /certificate/getCountOfSmartAssetsIdByTags``.

        An unknown tag gives 0. Raises NmpError.
        """
        what = f"the count of claimed passports of tag {tag!r}"
        return _count(self._claims("/certificate/getCountOfSmartAssetsIdByTags", tag, what), what)

    def replace_link(self, certificate_id: str) -> NewLink:
        """End the link of one passport by giving it another: ``POST /api/createCertificateRequestOwnershipLink``.

        This is an on-chain transaction: it costs, and the old link ends when it is mined. Raises ValueError for an id
        that is not a number, else NmpError.
        """
        if not _NUMBER.fullmatch(certificate_id):
            message = f"the certificate id {certificate_id!r} is not a number: take it from passport_ops.passport"
            raise ValueError(message)
        what = f"the new link of certificate {certificate_id}"
        deadline = time.monotonic() + LISTING_SECONDS
        path = "/api/createCertificateRequestOwnershipLink"
        raw = self._call("POST", path, deadline, body=[int(certificate_id)])
        if raw.status != 200:
            raise self._error(raw, what)
        reading = read_answer(raw, self.connection.rules)
        if reading.link is None or reading.certificate_id != certificate_id:
            raise _unreadable(what)
        return NewLink(certificate_id, reading.link)

    def check(self) -> str:
        """Try host and key without reserving; gives one or two sentences on what this proves and what it cannot.

        Counts the claims of a tag that does not exist, which needs the right certRead. Raises NmpError.
        """
        claimed = self.claimed_count(NO_SUCH_TAG)
        if claimed:
            message = (
                f"the NMP at {self.connection.host} counts {claimed} claims for a tag that does not exist, so it "
                "ignores tags: check the base URL of the connection nmp"
            )
            raise NmpUnreadableError(message)
        plain = "" if self.connection.encrypted else " The key is sent unencrypted (http)."
        return (
            f"The NMP at {self.connection.host} answers and its API key may read claims (certRead). Only a call that "
            f"consumes a passport could show whether the key may reserve (certCreate) and reset.{plain}"
        )

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._wire.close()

    def _claims(self, path: str, tag: str, what: str) -> Any:
        _checked_tag(tag)
        body = {"tags": [tag], "tagRule": "and", "uniqueOwner": True}
        raw = self._call("POST", path, time.monotonic() + LISTING_SECONDS, body=body, limit=LISTING_LIMIT)
        answer = self._answered(raw, what)
        return answer.get("result") if isinstance(answer, dict) else None

    def _answered(self, raw: RawAnswer, what: str) -> Any:
        """Give the JSON of a 200, with numbers as strings; raises NmpError for any other answer."""
        if raw.status != 200:
            raise self._error(raw, what)
        try:
            return parsed_json(raw.body)
        except ValueError:
            raise _unreadable(what) from None

    def _error(self, raw: RawAnswer, what: str) -> NmpError:
        """Turn an answer that is not a 200 into one of the errors."""
        failed = f"{what} failed at the NMP {self.connection.host}"
        uncertain = f"{what} at the NMP {self.connection.host} may have been done or not"
        if raw.failure is CallFailure.NOT_SENT:
            return NmpNotReachedError(f"{failed}: {why_no_answer(raw)}")
        if raw.status is None:
            return NmpUncertainError(f"{uncertain}: {why_no_answer(raw)}")
        if 400 <= raw.status < 500:
            return NmpRefusedError(f"{failed}: {why_refused(raw.status)}")
        return NmpUncertainError(f"{uncertain}: it answered {raw.status}")

    def _call(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        tag: str | None = None,
        body: object = None,
        limit: int = BODY_LIMIT,
        **params: str,
    ) -> RawAnswer:
        query = params if tag is None else {"tags": _checked_tag(tag), **params}
        headers = {
            "x-api-key": self.connection.api_key,
            "Accept": "application/json, text/plain;q=0.9, */*;q=0.1",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            "User-Agent": "passport-links",
        }
        url = self.connection.base_url + path
        return self._wire.exchange(Request(method, url, headers=headers, params=query, json=body), deadline, limit)


def _checked_tag(tag: str) -> str:
    if "," in tag or not tag.strip():
        message = f"the tag {tag!r} cannot be sent: the NMP needs a tag and reads a comma as two; correct the campaign"
        raise ValueError(message)
    return tag


def _count(answer: Any, what: str) -> int:
    count = answer.get("count") if isinstance(answer, dict) else None
    if not isinstance(count, str) or not _NUMBER.fullmatch(count):
        raise _unreadable(what)
    return int(count)


def _unreadable(what: str) -> NmpUnreadableError:
    return NmpUnreadableError(f"{what} was answered with 200, but not in the documented form")
