"""Find the ids in a list of claimed certificates, piece by piece and in constant memory, however long the list is.

Follows the NMP's page get-nfts-list-by-tags: ``{"result": {"smartAssetsId": [479081, "95239832777"]}}``, with any other
fields around. Nothing here touches the network.
"""

import json
import re
from dataclasses import dataclass

DEEPEST = 64
"""How many objects and lists may be open where the list begins; in the documented answer it is two."""

LONGEST_TOKEN = 16 * 1024
"""Bytes of a text or a number before the list."""

_LIST_AT = ["result", "smartAssetsId"]

_GAP = rb"[ \t\r\n]"
_ID = rb"[0-9]{1,78}"  # a token id has 256 bits

# No quantifier gives back what it took (++, *+): otherwise a long list needs as long a stack of places to go back to.
_IDS_WITH_COMMA = re.compile(rb'(?:%b*+(?:%b|"%b")%b*+,)*+' % (_GAP, _ID, _ID, _GAP))
_END_OF_LIST = re.compile(rb'%b*+(?P<id>(?:%b|"%b")%b*+)?\]' % (_GAP, _ID, _ID, _GAP))
_PART_OF_ID = re.compile(rb'%b*+(?:%b%b*+|"[0-9]{0,78}|"%b"%b*+)?' % (_GAP, _ID, _GAP, _ID, _GAP))
_GAPS = re.compile(rb"%b++" % _GAP)
_DIGITS = re.compile("[0-9]++")

_TOKEN = re.compile(
    rb'(?P<gap>%b++)|(?P<mark>[{}\[\]:,])|(?P<text>"(?:[^"\\]++|\\.)*+")|(?P<word>[-+.0-9A-Za-z]++)(?=[^-+.0-9A-Za-z])'
    % _GAP,
    re.DOTALL,
)
_PART_OF_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?|[-+.0-9A-Za-z]++', re.DOTALL)


class NotAListError(Exception):
    """The bytes are not an answer with a list of claimed certificates."""


@dataclass
class _Level:
    """An object or a list that is open: the mark that closes it and, in an object, the last key."""

    closed_by: bytes
    key: str | None = None


class ClaimsListParser:
    """Find the ids in the bytes of one answer, which come in pieces of any size.

    ``complete`` says whether the closing bracket was seen: only then does the list have no further id.
    """

    def __init__(self) -> None:
        self.complete = False
        self._rest = b""  # what may be the beginning of a token or of an id
        self._in_list = False
        self._has_ids = False
        self._open: list[_Level] = []
        self._last_token = b""

    def feed(self, piece: bytes) -> list[str]:
        """Give the ids whose end is certain with this piece, as text; raises NotAListError.

        What follows the closing bracket is not looked at.
        """
        if self.complete:
            return []
        data = self._rest + piece
        if not self._in_list:
            data = self._after_list_began(data)
        return self._ids(data) if self._in_list else []

    def _ids(self, data: bytes) -> list[str]:
        end = _end(_IDS_WITH_COMMA.match(data))
        closing = _END_OF_LIST.match(data, end)
        if closing is not None:
            if closing["id"] is None and (self._has_ids or end):  # a comma before the bracket
                raise NotAListError
            self.complete = True
            end = closing.end()
            self._rest = b""
        else:
            if not _PART_OF_ID.fullmatch(data, end):
                raise NotAListError
            self._rest = _GAPS.sub(b" ", data[end:])  # so that no number of blanks makes it long
        ids = _DIGITS.findall(data[:end].decode("ascii"))
        self._has_ids = self._has_ids or bool(ids)
        return ids

    def _after_list_began(self, data: bytes) -> bytes:
        """Go through the tokens before the list; gives what follows its opening bracket, if that has come."""
        position = 0
        while position < len(data) and not self._in_list:
            token = _TOKEN.match(data, position)
            if token is None:
                break
            if token.lastgroup != "gap":
                self._take(token[0])
            position = token.end()
        self._rest = b"" if self._in_list else data[position:]
        if self._rest and not (self._open and _PART_OF_TOKEN.fullmatch(self._rest)):
            raise NotAListError
        if len(self._rest) > LONGEST_TOKEN:
            raise NotAListError
        return data[position:]

    def _take(self, token: bytes) -> None:
        match token:
            case b"[" if self._last_token == b":" and [level.key for level in self._open] == _LIST_AT:
                self._in_list = True
            case b"{" | b"[" if len(self._open) < DEEPEST:
                self._open.append(_Level(b"}" if token == b"{" else b"]"))
            case b"}" | b"]" if self._open and self._open[-1].closed_by == token:
                self._open.pop()
            case b":" if self._open and self._open[-1].closed_by == b"}":
                self._open[-1].key = _key(self._last_token)
            case b"{" | b"[" | b"}" | b"]" | b":":
                raise NotAListError
            case _ if len(token) > LONGEST_TOKEN:
                raise NotAListError
        if not self._open:  # the answer is over, or it is no object
            raise NotAListError
        self._last_token = token


def _end(match: re.Match[bytes] | None) -> int:
    return match.end() if match else 0


def _key(token: bytes) -> str:
    try:
        key = json.loads(token)
    except ValueError:
        raise NotAListError from None
    if not isinstance(key, str):
        raise NotAListError
    return key
