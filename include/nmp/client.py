"""The NMP's HTTP API (v1.7 to v2.1), one method for each call; no other module calls it.

Pages: reserve-nfts and individual-links (reserve), reset-reserved-nfts (reset_all), check-nft-claiming-status,
count-nfts-by-tags and get-nfts-list-by-tags (claims), make-your-certificate-claimable (replace_link).
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from requests import Request

from include.nmp.answers import BODY_LIMIT, CallFailure, RawAnswer, parsed_json, read_answer, why_no_answer, why_refused
from include.nmp.claims_list import ClaimsListParser, NotAListError
from include.nmp.connection import NmpConnection
from include.nmp.errors import NmpError, NmpNotReachedError, NmpRefusedError, NmpUncertainError, NmpUnreadableError
from include.nmp.wire import Stream, Wire

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

    def reset_all(self, tag: str, *, seconds: float | None = None) -> int:
        """Take back what is reserved and unclaimed under a tag: ``GET /dispenser/distribution/resetAll``.

        ``seconds`` limits the whole call, silence included; unset, silence ends it at the read timeout. Gives the NMP's
        count, which may be lower than the number of reserved passports; 0 also for a tag that does not exist. Raises
        NmpError; if it is ``possibly_done``, the reset may have happened.
        """
        what = f"the reset of tag {tag!r}"
        deadline = time.monotonic() + (LISTING_SECONDS if seconds is None else seconds)
        raw = self._call("GET", "/dispenser/distribution/resetAll", deadline, tag=tag, read_timeout=seconds)
        return _count(self._answered(raw, what), what)

    @contextmanager
    def listed_claims(self, tag: str, *, seconds: float) -> Iterator["ListedClaims"]:
        """Read which passports were ever claimed under a tag: ``POST /certificate/getListOfSmartAssetsIdByTags``.

        Gives the ids as they come, in constant memory; an unknown tag has none. ``seconds`` limits the whole call, with
        the reading, however silent the NMP is. Raises NmpError if there is no answer to read or it is not such a list.
        """
        what = f"the list of claimed passports of tag {tag!r}"
        path = "/certificate/getListOfSmartAssetsIdByTags"
        request = self._request("POST", path, {}, _which_claims(tag))
        with self._wire.stream(request, time.monotonic() + seconds, read_timeout=seconds) as stream:
            if stream.answer.status != 200:
                raise self._error(stream.answer, what)
            yield ListedClaims(stream, what)

    def claimed_certificates(self, tag: str) -> set[str]:
        """Give the ids of all passports ever claimed under a tag, as `listed_claims`, but all or none.

        Raises NmpError.
        """
        with self.listed_claims(tag, seconds=LISTING_SECONDS) as listed:
            claimed = set(listed)
        if listed.why_cut is not None:
            host = self.connection.host
            message = f"the list of claimed passports of tag {tag!r} at the NMP {host} was cut: {listed.why_cut}"
            raise NmpUncertainError(message)
        return claimed

    def claimed_count(self, tag: str) -> int:
        """Count the passports ever claimed under a tag: ``POST /certificate/getCountOfSmartAssetsIdByTags``.

        An unknown tag gives 0. Raises NmpError.
        """
        what = f"the count of claimed passports of tag {tag!r}"
        path = "/certificate/getCountOfSmartAssetsIdByTags"
        raw = self._call("POST", path, time.monotonic() + LISTING_SECONDS, body=_which_claims(tag))
        answer = self._answered(raw, what)
        return _count(answer.get("result") if isinstance(answer, dict) else None, what)

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
        read_timeout: float | None = None,
        **params: str,
    ) -> RawAnswer:
        query = params if tag is None else {"tags": _checked_tag(tag), **params}
        request = self._request(method, path, query, body)
        return self._wire.exchange(request, deadline, BODY_LIMIT, read_timeout=read_timeout)

    def _request(self, method: str, path: str, query: dict[str, str], body: object) -> Request:
        headers = {
            "x-api-key": self.connection.api_key,
            "Accept": "application/json, text/plain;q=0.9, */*;q=0.1",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            "User-Agent": "passport-links",
        }
        return Request(method, self.connection.base_url + path, headers=headers, params=query, json=body)


class ListedClaims:
    """The ids of one tag's claimed passports while they come; iterate over it once.

    Every id that it gives was claimed. Only when it is ``complete`` were the others not.
    """

    def __init__(self, stream: Stream, what: str) -> None:
        self._stream = stream
        self._what = what
        self._parser = ClaimsListParser()

    @property
    def complete(self) -> bool:
        """Whether the closing bracket of the list was seen."""
        return self._parser.complete

    @property
    def why_cut(self) -> str | None:
        """Why the closing bracket did not come, for a person; None if it came."""
        if self.complete:
            return None
        answer = self._stream.answer
        return why_no_answer(replace(answer, failure=answer.failure or CallFailure.TRUNCATED))

    def __iter__(self) -> Iterator[str]:
        """Give one id after the other, as `batches`."""
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[str]]:
        """Give the ids as text, some thousands at once at most, in the NMP's order.

        Ends early, without an error, where the list is cut; an id that is cut is left out. Raises NmpUnreadableError
        where it is no list of ids.
        """
        try:
            for piece in self._stream.pieces():
                yield self._parser.feed(piece)
                if self.complete:
                    return
        except NotAListError:
            raise _unreadable(self._what) from None


def _which_claims(tag: str) -> dict[str, object]:
    return {"tags": [_checked_tag(tag)], "tagRule": "and", "uniqueOwner": True}


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
