"""The list of claims, read in pieces: any pieces give the same ids, and any cut gives the first of them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.nmp.claims_list import DEEPEST, LONGEST_TOKEN, ClaimsListParser, NotAListError


def read(*pieces: bytes) -> tuple[list[str], bool]:
    """The ids that all pieces together give, and whether the list is complete."""
    parser = ClaimsListParser()
    ids = [id_ for piece in pieces for id_ in parser.feed(piece)]
    return ids, parser.complete


def split(body: bytes, places: list[int]) -> list[bytes]:
    return [body[start:end] for start, end in pairwise([0, *sorted(places), len(body)])]


def listed(inner: bytes) -> bytes:
    return b'{"result":{"smartAssetsId":[' + inner + b"]}}"


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (listed(b""), []),
        (listed(b" \r\n\t "), []),
        (listed(b"479081,95239832777"), ["479081", "95239832777"]),
        (listed(b'"479081" ,\n 95239832777 '), ["479081", "95239832777"]),
        (listed(b"9" * 78), ["9" * 78]),
        (listed(b'0,"007",7'), ["0", "007", "7"]),
        (listed(b"1" + b" " * 200_000 + b", 2"), ["1", "2"]),
        (
            b' { "time" : -1.5e3, "ok":true, "no":null, "text":"a \\"smartAssetsId\\":[1] \\\\", "result" : '
            b'{"count": 3, "pages": [[1], {"smartAssetsId": [2]}], "smartAssetsId" : [3], "more": [4]}, "also": [5]} ',
            ["3"],
        ),
        (b'{"smartAssetsId":[1],"result":{"smartAssetsId":[2]}}', ["2"]),
        (b'{"result":[{"smartAssetsId":[1]}],"result":{"smartAssetsId":[2]}}', ["2"]),
        (b'{"result":{"result":{"smartAssetsId":[1]},"smartAssetsId":[2]}}', ["2"]),
        (b'{"\\u0072esult":{"smart\\u0041ssetsId":[6]}}', ["6"]),
        ('{"größe":"ü€","result":{"smartAssetsId":[7]}}'.encode(), ["7"]),
        (b'{"x":"' + b"y" * (LONGEST_TOKEN - 2) + b'","result":{"smartAssetsId":[8]}}', ["8"]),
    ],
)
def test_the_ids_of_a_list_are_text_whatever_is_around(body: bytes, ids: list[str]) -> None:
    assert read(body) == (ids, True)
    if len(body) < 1000:
        assert read(*(bytes([byte]) for byte in body)) == (ids, True)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"canaryphrase",
        b'"text"',
        b"[1,2]",
        b"{}",
        b'{"message":"Unauthorized"}',
        b'{"result":{"smartAssetsId":null}}',
        b'{"result":{"smartAssetsId":"1"}}',
        b'{"result":{"smartAssetsId":{"1":2}}}',
        b'{"result":{"smartAssetsId"[1]}}',
        b'{"result":{"smartAssetsId":[[1]]}}',
        b'{"result"}',
        b'{"result":}]',
        b'{1:2,"result":{"smartAssetsId":[1]}}',
        b'{"a\nb":1}',
        b'{"\xff":1}',
        b"{:1}",
        b"}",
        b"]",
        b",",
        b"\xef\xbb\xbf" + listed(b"1"),
        b'{"x":' + b"[" * DEEPEST,
        b'{"x":"' + b"y" * LONGEST_TOKEN + b'"}',
        b'{"x":"' + b"y" * LONGEST_TOKEN,
        b'{"x":' + b"1" * (LONGEST_TOKEN + 1),
        listed(b"1,"),
        listed(b","),
        listed(b"1 2"),
        listed(b"1,,2"),
        listed(b"1.5"),
        listed(b"-1"),
        listed(b"1e5"),
        listed(b"null"),
        listed(b'"abc"'),
        listed(b'""'),
        listed(b'"1" "2"'),
        listed(b'"1'),
        listed(b"9" * 79),
        listed(b'"' + b"9" * 79 + b'"'),
        listed("\u0663".encode()),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_what_is_no_list_of_ids_is_refused(body: bytes, size: int) -> None:
    size = max(size, len(body) // 100)
    with pytest.raises(NotAListError):
        read(*(body[start : start + size] for start in range(0, len(body), size)))


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b"", []),
        (b"  ", []),
        (b'{"result":{"smart', []),
        (b'{"x":1', []),
        (b'{"result":{"smartAssetsId":[', []),
        (b'{"result":{"smartAssetsId":[479081', []),
        (b'{"result":{"smartAssetsId":[479081,952', ["479081"]),
        (b'{"result":{"smartAssetsId":["479081","952', ["479081"]),
        (b'{"result":{"smartAssetsId":["479081","952"', ["479081"]),
        (b'{"result":{"smartAssetsId":[479081,952,', ["479081", "952"]),
    ],
)
def test_a_cut_list_gives_the_ids_whose_end_came_and_is_not_complete(body: bytes, ids: list[str]) -> None:
    assert read(body) == (ids, False)


@pytest.mark.parametrize("after", [b"]", b"]}", b"]}}", b"],<html>", b"]}} and more", b"],5]"])
def test_with_its_bracket_a_list_is_complete_whatever_follows(after: bytes) -> None:
    assert read(b'{"result":{"smartAssetsId":[1,2' + after, b",3]") == (["1", "2"], True)


# -- any answer, any pieces, any cut -----------------------------------------------------------------------------------

IDS = st.lists(st.one_of(st.integers(0, 10**12), st.integers(0, 10**12).map(str), st.just(10**77)), max_size=30)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text())
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["result", "smartAssetsId", "\\[{"]), inner)
    ),
    max_leaves=8,
)
OTHERS = st.dictionaries(st.text().filter(lambda key: key not in ("result", "smartAssetsId")), JSON, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[str], int]:
    """A whole answer with any fields before and after the list, the ids of its list, and where the list ends."""
    ids: list[Any] = draw(IDS)
    indent = draw(st.sampled_from([None, 0, 2, "\t"]))
    result = {**draw(OTHERS), "smartAssetsId": "<the list>", **draw(OTHERS)}
    answer = {**draw(OTHERS), "result": result, **draw(OTHERS)}
    text = json.dumps(answer, ensure_ascii=draw(st.booleans()), indent=indent).encode("utf-8", "surrogatepass")
    before, _, after = text.partition(b'"<the list>"')
    body = before + json.dumps(ids, indent=indent).encode()
    return body + after, [str(id_) for id_ in ids], len(body)


@given(answer=answers(), data=st.data())
def test_any_split_into_pieces_gives_the_same_ids(answer: tuple[bytes, list[str], int], data: st.DataObject) -> None:
    body, ids, _ = answer
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    assert read(*split(body, places)) == (ids, True)


@given(answer=answers(), data=st.data())
def test_any_cut_gives_the_first_ids_and_only_the_bracket_makes_a_list_complete(
    answer: tuple[bytes, list[str], int], data: st.DataObject
) -> None:
    body, ids, bracket = answer
    near = st.integers(max(0, bracket - 30), bracket)
    cut = data.draw(st.one_of(st.integers(0, len(body)), near))
    found, complete = read(*split(body[:cut], data.draw(st.lists(st.integers(0, cut), max_size=5))))
    assert found == ids[: len(found)]
    assert complete is (cut >= bracket)
    assert len(found) == len(ids) or not complete


@given(pieces=st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_are_a_list_or_refused(pieces: list[bytes]) -> None:
    try:
        ids, _ = read(*pieces)
    except NotAListError:
        return
    assert all(id_.isdecimal() for id_ in ids)
