"""Every documented answer, and every reading of what is not documented, lands in its row of the table."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.nmp.answers import (
    CallFailure,
    LinkRules,
    RawAnswer,
    Reading,
    read_answer,
    why_no_answer,
)
from include.outcomes import MEANINGS, AttemptOutcome, Consumed

ANY = LinkRules()
LINK = "https://test.arianee.net/440105186,v6lsj4vhg5dx"
LINK_OBJECT = (
    b'{"method": "requestOwnership", "certificateId": 440105186, "passphrase": "v6lsj4vhg5dx", "deeplink": '
    b'{"certificateId": 440105186, "passphrase": "v6lsj4vhg5dx", '
    b'"link": "https://test.arianee.net/440105186,v6lsj4vhg5dx"}}'
)
EMPTY_POOL = (
    b'{"name": "API Error", "description": "No NFT found to distribute", '
    b'"code": "nmp.back.dispenser.oneToOne.noNFTsToSend", "httpCode": 400}'
)


def read(status: int, body: bytes = b"", retry_after: str | None = None, rules: LinkRules = ANY) -> Reading:
    return read_answer(RawAnswer(status, body, retry_after), rules)


# -- a 200 with a link -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        LINK_OBJECT,
        b"\xef\xbb\xbf" + LINK_OBJECT + b"\r\n",
        LINK.encode(),
        LINK.encode() + b"\n",
        b"\xef\xbb\xbf" + LINK.encode() + b"\r\n",
        json.dumps(LINK).encode(),
        json.dumps({"certificateId": 440105186, "passphrase": "v6lsj4vhg5dx", "deeplink": LINK}).encode(),
        json.dumps({"certificateId": "440105186", "passphrase": "v6lsj4vhg5dx", "deeplink": {"link": LINK}}).encode(),
        json.dumps({"certificateId": None, "deeplink": LINK + "\n", "extra": {"a": [1.5]}}).encode(),
        json.dumps({"certificateId": 440105186, "passphrase": "v6lsj4vhg5dx", "link": LINK}).encode(),
        json.dumps({"link": LINK, "deeplink": {"link": LINK}}).encode(),
    ],
)
def test_both_formats_and_their_variants_give_the_link(body: bytes) -> None:
    reading = read(200, body)
    assert reading == Reading(
        AttemptOutcome.RESERVED, "200 with a link", 200, certificate_id="440105186", link=LINK, retry_after=None
    )


@pytest.mark.parametrize(
    ("link", "certificate_id"),
    [
        ("https://test.arianee.net/440105186,v6lsj4vhg5dx,protocol", "440105186"),
        ("https://test.arianee.net/440105186,v6lsj4vhg5dx,protocol,0xIssuer", "440105186"),
        ("https://test.arianee.net/requestOwnership/440105186,v6lsj4vhg5dx", "440105186"),
        ("https://test.arianee.net/440105186,v6lsj4vhg5dx?proofLinkToken=a,b", "440105186"),
        ("https://links.brand.example:8443/proof/1,123456789012,a,b?x=1/2", "1"),
        ("https://arianee.net/95239832777,qoy7bdpri6me5", "95239832777"),
        ("https://arianee.net/123456789012345678901234567890,custom%20Pass-phrase", "123456789012345678901234567890"),
    ],
)
def test_two_to_four_fields_a_method_and_a_query_make_a_link(link: str, certificate_id: str) -> None:
    reading = read(200, link.encode())
    assert (reading.outcome, reading.link, reading.certificate_id) == (AttemptOutcome.RESERVED, link, certificate_id)


def test_an_id_beyond_2_to_the_53_keeps_every_digit() -> None:
    body = b'{"certificateId": 9007199254740993, "deeplink": "https://arianee.net/9007199254740993,abc"}'
    assert read(200, body).certificate_id == "9007199254740993"
    other = b'{"certificateId": 9007199254740992, "deeplink": "https://arianee.net/9007199254740993,abc"}'
    assert read(200, other).outcome is AttemptOutcome.UNREADABLE


def test_an_all_digit_passphrase_sent_as_a_number_agrees_with_the_link() -> None:
    body = b'{"certificateId": 7, "passphrase": 123456789012, "deeplink": "https://arianee.net/7,123456789012"}'
    assert read(200, body).outcome is AttemptOutcome.RESERVED


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "its link does not have the documented form"),
        (b"null", "its link does not have the documented form"),
        (b"{}", "its link object has no link"),
        (b"[]", "its body is neither a link nor a link object"),
        (b'{"deeplink": {"certificateId": 1}}', "its link object has no link"),
        (b'{"deeplink": ["https://arianee.net/1,a"]}', "its link object has no link"),
        (
            b'{"link": "https://arianee.net/1,a", "deeplink": "https://arianee.net/2,b"}',
            "its link object has two links",
        ),
        (LINK_OBJECT[:-20], "its body begins like JSON and is not valid JSON"),
        (b"\xff\xfe\x00", "its body is not text"),
        (b"[" * 60_000, "its body begins like JSON and is not valid JSON"),
        (b'{"certificateId": ' + b"9" * 5_000 + b', "deeplink": "https://arianee.net/1,a"}', "contradict each other"),
        (b"<html><body>Sign in</body></html>", "its link does not have the documented form"),
        (b'{"certificateId": 2, "deeplink": "https://arianee.net/1,a"}', "contradict each other"),
        (b'{"deeplink": {"certificateId": 2, "link": "https://arianee.net/1,a"}}', "contradict each other"),
        (b'{"certificateId": 1.0, "deeplink": "https://arianee.net/1,a"}', "contradict each other"),
        (b'{"certificateId": true, "deeplink": "https://arianee.net/1,a"}', "contradict each other"),
        (b'{"passphrase": "b", "deeplink": "https://arianee.net/1,a"}', "contradict each other"),
        (LINK.encode() + b" " * 65_536, "its body is longer than 65536 bytes"),
    ],
)
def test_a_200_that_cannot_be_read_is_consumed_and_says_why(body: bytes, words: str) -> None:
    reading = read(200, body)
    assert reading.outcome is AttemptOutcome.UNREADABLE
    assert reading.detail.startswith("200: a passport was consumed, but ")
    assert reading.detail.endswith(words)
    assert (reading.certificate_id, reading.link) == (None, None)


@pytest.mark.parametrize(
    "link",
    [
        "http://test.arianee.net/1,a",
        "ftp://test.arianee.net/1,a",
        "https:///1,a",
        "https://test.arianee.net/1",
        "https://test.arianee.net/1,",
        "https://test.arianee.net/,a",
        "https://test.arianee.net/1,,b",
        "https://test.arianee.net/1,a,b,c,d",
        "https://test.arianee.net/x/y/1,a",
        "https://test.arianee.net/abc,a",
        "https://user@test.arianee.net/1,a",
        "https://arianee.net@evil.example/1,a",
        "https://evil.example\\@arianee.net/1,a",
        "https://test.arianee.net/1,a#b",
        "https://test.arianee.net/1,a b",
        'https://test.arianee.net/1,a"onload=x',
        "https://test.arianee.net/1,ä",
        "https://test.arianee.net/1,a\nhttps://test.arianee.net/2,b",
        "https://test.arianee.net/1,a?" + "x" * 2048,
    ],
)
def test_what_is_not_a_link_of_the_documented_form_is_not_one(link: str) -> None:
    assert read(200, link.encode()).outcome is AttemptOutcome.UNREADABLE
    assert read(200, json.dumps({"deeplink": link}).encode()).outcome is AttemptOutcome.UNREADABLE


# -- hosts and environments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "rules", "outcome"),
    [
        ("test.arianee.net", LinkRules("test"), AttemptOutcome.RESERVED),
        ("test.arian.ee", LinkRules("test"), AttemptOutcome.RESERVED),
        ("TEST.Arianee.net", LinkRules("test"), AttemptOutcome.RESERVED),
        ("links.brand.example", LinkRules("test"), AttemptOutcome.RESERVED),
        ("arianee.net", LinkRules("production"), AttemptOutcome.RESERVED),
        ("arian.ee", LinkRules("production"), AttemptOutcome.RESERVED),
        ("arianee.net", LinkRules("test"), AttemptOutcome.WRONG_LINK),
        ("ARIAN.EE", LinkRules("test"), AttemptOutcome.WRONG_LINK),
        ("test.arianee.net", LinkRules("production"), AttemptOutcome.WRONG_LINK),
        ("test.arian.ee", LinkRules("production"), AttemptOutcome.WRONG_LINK),
        ("links.brand.example", LinkRules("production", ("links.brand.example",)), AttemptOutcome.RESERVED),
        ("Links.Brand.Example", LinkRules(None, ("links.brand.example",)), AttemptOutcome.RESERVED),
        ("other.example", LinkRules(None, ("links.brand.example", "arianee.net")), AttemptOutcome.WRONG_LINK),
        ("links.brand.example.evil.example", LinkRules(None, ("links.brand.example",)), AttemptOutcome.WRONG_LINK),
        ("anything.example", LinkRules(), AttemptOutcome.RESERVED),
        ("anything.example", LinkRules("", ()), AttemptOutcome.RESERVED),
    ],
)
def test_the_connection_decides_which_hosts_a_link_may_have(
    host: str, rules: LinkRules, outcome: AttemptOutcome
) -> None:
    assert read(200, f"https://{host}/1,a".encode(), rules=rules).outcome is outcome


def test_a_link_of_the_other_environment_names_both_but_is_not_given_out() -> None:
    reading = read(200, b"https://arianee.net/12,secretphrase", rules=LinkRules("test"))
    assert reading == Reading(
        AttemptOutcome.WRONG_LINK,
        "200: a passport was consumed, but its link is of production (arianee.net) and the connection of test; "
        "correct the connection nmp, then release the order",
        200,
        certificate_id="12",
        link="https://arianee.net/12,secretphrase",
    )


def test_a_link_of_a_foreign_host_names_the_allowed_hosts_and_not_the_foreign_one() -> None:
    reading = read(200, b"https://evil.example/12,secretphrase", rules=LinkRules(None, ("a.example", "b.example")))
    assert reading.detail == (
        "200: a passport was consumed, but the host of its link is not in link_hosts (a.example, b.example); "
        "correct the connection nmp, then release the order"
    )


# -- every other status ------------------------------------------------------------------------------------------------


def test_the_documented_400_means_an_empty_pool() -> None:
    assert read(400, EMPTY_POOL) == Reading(
        AttemptOutcome.OUT_OF_STOCK,
        "the tag is empty or does not exist (nmp.back.dispenser.oneToOne.noNFTsToSend)",
        400,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"message": "Bad Request"}',
        b'{"code": "nmp.back.other"}',
        b'{"code": ["nmp.back.dispenser.oneToOne.noNFTsToSend"]}',
        b"nmp.back.dispenser.oneToOne.noNFTsToSend",
        b"<html>nmp.back.dispenser.oneToOne.noNFTsToSend</html>",
    ],
)
def test_any_other_400_is_a_refusal(body: bytes) -> None:
    assert read(400, body).outcome is AttemptOutcome.REFUSED


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (100, AttemptOutcome.UNREADABLE),
        (103, AttemptOutcome.UNREADABLE),
        (201, AttemptOutcome.UNREADABLE),
        (202, AttemptOutcome.UNREADABLE),
        (204, AttemptOutcome.UNREADABLE),
        (301, AttemptOutcome.REDIRECTED),
        (302, AttemptOutcome.REDIRECTED),
        (304, AttemptOutcome.REDIRECTED),
        (308, AttemptOutcome.REDIRECTED),
        (401, AttemptOutcome.REFUSED),
        (403, AttemptOutcome.REFUSED),
        (404, AttemptOutcome.REFUSED),
        (405, AttemptOutcome.REFUSED),
        (408, AttemptOutcome.REFUSED),
        (418, AttemptOutcome.REFUSED),
        (425, AttemptOutcome.REFUSED),
        (429, AttemptOutcome.THROTTLED),
        (500, AttemptOutcome.UNKNOWN),
        (502, AttemptOutcome.UNKNOWN),
        (503, AttemptOutcome.UNKNOWN),
        (504, AttemptOutcome.UNKNOWN),
        (599, AttemptOutcome.UNKNOWN),
        (999, AttemptOutcome.UNKNOWN),
    ],
)
def test_each_status_has_its_meaning_whatever_its_body_says(status: int, outcome: AttemptOutcome) -> None:
    assert {read(status, body).outcome for body in (b"", b"<html>", EMPTY_POOL, LINK_OBJECT)} == {outcome}


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 12 ", 12.0),
        ("300", 300.0),
        ("86400", 300.0),
        ("9" * 60_000, 300.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 300.0),
        ("Fri, 31 Dec 2100 23:59:59", 300.0),
    ],
)
def test_a_503_that_names_a_time_was_not_done(retry_after: str, seconds: float) -> None:
    for status in (429, 503):
        reading = read(status, retry_after=retry_after)
        assert (reading.outcome, reading.retry_after) == (AttemptOutcome.THROTTLED, seconds)


def test_a_date_in_retry_after_is_counted_from_now() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    seconds = read(429, retry_after=date).retry_after
    assert seconds is not None
    assert 95 <= seconds <= 100


@pytest.mark.parametrize("retry_after", [None, "", "soon", "-1", "1.5", "1, 2", "²", "Wed, 99 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_cannot_be_read_leaves_a_503_unknown_and_a_429_throttled(retry_after: str | None) -> None:
    assert read(503, retry_after=retry_after).outcome is AttemptOutcome.UNKNOWN
    throttled = read(429, retry_after=retry_after)
    assert (throttled.outcome, throttled.retry_after) == (AttemptOutcome.THROTTLED, None)


# -- no answer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (CallFailure.NOT_SENT, AttemptOutcome.NOT_SENT),
        (CallFailure.TIMEOUT, AttemptOutcome.UNKNOWN),
        (CallFailure.RESET, AttemptOutcome.UNKNOWN),
        (CallFailure.TRUNCATED, AttemptOutcome.UNKNOWN),
        (CallFailure.BROKEN, AttemptOutcome.UNKNOWN),
        (None, AttemptOutcome.UNKNOWN),
    ],
)
def test_only_a_request_that_never_left_is_known_to_have_consumed_nothing(
    failure: CallFailure | None, outcome: AttemptOutcome
) -> None:
    assert read_answer(RawAnswer(None, LINK_OBJECT, None, failure), ANY).outcome is outcome


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (CallFailure.NOT_SENT, "gaierror", "the host name of the connection nmp could not be resolved (gaierror)"),
        (
            CallFailure.NOT_SENT,
            "ConnectionRefusedError",
            "the host of the connection nmp refused the connection (ConnectionRefusedError)",
        ),
        (CallFailure.NOT_SENT, "OSError", "there was no connection (OSError)"),
        (CallFailure.TIMEOUT, "TimeoutError", "no complete answer came in time (TimeoutError)"),
        (None, "", "the answer is not known"),
    ],
)
def test_a_missing_answer_is_explained(failure: CallFailure | None, error: str, words: str) -> None:
    assert why_no_answer(RawAnswer(None, b"", None, failure, error)) == words


# -- whatever the bytes ------------------------------------------------------------------------------------------------

CANARY = "canaryphrase"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(CANARY) | st.just(LINK),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["certificateId", "passphrase", "deeplink", "link", "code", "x"]), inner)
    ),
    max_leaves=8,
)
_URL = st.tuples(
    st.sampled_from(["https://", "http://", "HTTPS://", "", "https:/", "https://u@"]),
    st.sampled_from(["test.arianee.net", "arianee.net", "brand.example", "[::1]", "", "a:99999", CANARY + ".example"]),
    st.sampled_from(["/", "//", "/m/", "", "?"]),
    st.lists(st.sampled_from(["1", "440105186", CANARY, "", "a b", "é", "%00", "\ud800"]), min_size=1, max_size=6).map(
        ",".join
    ),
    st.sampled_from(["", "\n", "?q=" + CANARY, "#" + CANARY]),
).map("".join)
_BODIES = st.one_of(
    st.binary(max_size=200),
    _URL.map(lambda url: url.encode("utf-8", "surrogatepass")),
    _URL.map(lambda url: json.dumps({"certificateId": 1, "passphrase": CANARY, "deeplink": url}).encode()),
    _URL.map(lambda url: json.dumps({"code": CANARY, "deeplink": {"link": url, "certificateId": CANARY}}).encode()),
    _JSON.map(lambda value: json.dumps(value).encode()),
    st.tuples(st.binary(max_size=20), st.just(CANARY.encode()), st.binary(max_size=20)).map(b"".join),
)
_RULES = st.sampled_from(
    [
        ANY,
        LinkRules("test"),
        LinkRules("production"),
        LinkRules("test", ("brand.example",)),
        LinkRules(None, ("arianee.net", "test.arianee.net")),
    ]
)


@given(
    status=st.none() | st.integers(-1, 1000) | st.sampled_from([200, 400, 429, 503]),
    body=_BODIES,
    retry_after=st.none() | st.text(max_size=40) | st.just(CANARY),
    failure=st.none() | st.sampled_from(CallFailure),
    rules=_RULES,
)
def test_no_bytes_make_the_reading_raise_and_no_secret_shows(
    status: int | None, body: bytes, retry_after: str | None, failure: CallFailure | None, rules: LinkRules
) -> None:
    raw = RawAnswer(status, body, retry_after, failure, "TimeoutError")
    reading = read_answer(raw, rules)
    assert reading.outcome in MEANINGS
    assert CANARY not in reading.detail + repr(reading)
    assert CANARY not in repr(RawAnswer(status, body, None, failure))
    assert (reading.link is not None) == (reading.outcome is AttemptOutcome.RESERVED)
    if reading.link is not None:
        assert reading.link.startswith(("https://", "HTTPS://"))
        assert reading.link.isascii()
        assert f"/{reading.certificate_id}," in reading.link
    if reading.outcome is AttemptOutcome.NOT_SENT:
        assert failure is CallFailure.NOT_SENT
    if failure is None and status == 200:
        assert MEANINGS[reading.outcome].consumed is Consumed.YES


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20), st.integers(0, 2**256 - 1))
def test_every_id_of_256_bits_and_every_passphrase_of_the_platform_is_read(phrase: str, certificate: int) -> None:
    link = f"https://arianee.net/{certificate},{phrase}"
    body = json.dumps({"certificateId": certificate, "passphrase": phrase, "deeplink": {"link": link}}).encode()
    reading = read(200, body)
    assert (reading.outcome, reading.certificate_id, reading.link) == (AttemptOutcome.RESERVED, str(certificate), link)
