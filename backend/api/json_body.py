"""JSON from a client: an object, and never more of it built than a request can need."""

import base64
import json
import re
from typing import Annotated, Any

import msgspec

from backend.api.arrival import FIELDS_BYTES
from backend.errors import BadField

_MAX_MARKS = 128 * 1024
"""Most commas and opening brackets, within strings or not: there are no more values than those, and
the longest text may be all commas."""
_PIECE_CHARACTERS = 256 * 1024
"""Of base64 or of numbers, read in one go. Between two of them the event loop gets on."""
_STANDARD = bytes.maketrans(b"-_", b"+/")
_BETWEEN = b" \t\r\n\v\f"
_DATA_URL = re.compile(
    r"\s{0,16}data:[\w!#$&^.+/;=,\"' -]{0,256};base64,", re.IGNORECASE | re.ASCII
)
_NUMBERS = rb"\[(\s*+\d[\d,\s]*+)\]"
_BUFFER = re.compile(
    # Within a string each of these quotation marks would have a backslash in front of it.
    rb'("(?:audio|speaker_file)"\s*+:\s*+)(?:'
    rb'\{\s*+"type"\s*+:\s*+"Buffer"\s*+,\s*+"data"\s*+:\s*+' + _NUMBERS + rb"\s*+\}"
    rb"|" + _NUMBERS + rb")"
)
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


def check_values(body: bytes) -> None:
    """Raise `BadField` where `body` may hold more values than any request has."""
    marks = sum(map(body.count, (b",", b"[", b"{")))
    if marks > _MAX_MARKS:
        raise BadField(
            f"The JSON has {marks} commas and brackets; send at most {_MAX_MARKS} of them."
        )


def read_object(body: bytes) -> dict[str, Any]:
    """The object in `body`; of a field that is given twice, the last. Raises `BadField`."""
    check_values(body)
    try:
        values = _loaded(body)
    except (ValueError, RecursionError, msgspec.DecodeError):
        raise BadField("The body is not valid JSON; send an object of fields.") from None
    if not isinstance(values, dict):
        raise BadField("The body is JSON but no object; send an object of fields.")
    return values


def with_buffers_in_base64(body: bytes) -> bytes:
    """`body` with base64 for what Node makes of a file's bytes, `{"type":"Buffer","data":[…]}`.

    A list of their numbers is taken, too; both only where a file is expected. Raises `BadField`.
    """

    def in_base64(found: re.Match[bytes]) -> bytes:
        audio = _from_numbers(body, *found.span(found.lastindex or 0))
        return b'%b"%b"' % (found[1], base64.b64encode(audio))

    return _BUFFER.sub(in_base64, body)


def from_base64(text: object) -> bytes:
    """The file in a field; `ValueError` where it is not one in base64.

    The URL's alphabet, blanks and line breaks, `data:…;base64,` in front and no padding at the end
    are as good.
    """
    if not isinstance(text, str):
        raise ValueError("it is no string")
    address = _DATA_URL.match(text)
    start, has_ended = address.end() if address else 0, False
    left, decoded = b"", []
    while start < len(text):
        piece = text[start : start + _PIECE_CHARACTERS].encode("ascii")
        start += _PIECE_CHARACTERS
        piece = piece.translate(_STANDARD, _BETWEEN)
        if has_ended and piece.strip(b"="):
            raise ValueError("it goes on behind its end")
        has_ended = has_ended or b"=" in piece
        left += piece
        if start >= len(text):
            left = left.rstrip(b"=")
            left += b"=" * (-len(left) % 4)
        whole = len(left) // 4 * 4
        decoded.append(base64.b64decode(left[:whole], validate=True))
        left = left[whole:]
    return b"".join(decoded)


def _loaded(body: bytes) -> Any:
    if len(body) <= FIELDS_BYTES:
        # It takes halves of emoji, as programs send them that cut a text anywhere.
        return json.loads(body)
    # A recording is in it: `json` would widen all of that to four bytes a character for one emoji.
    return msgspec.json.decode(body)


def _from_numbers(body: bytes, start: int, end: int) -> bytes:
    """The bytes whose numbers, with commas between them, are at `start` to `end`."""
    pieces = []
    while start < end:
        cut = body.find(b",", min(start + _PIECE_CHARACTERS, end), end)
        cut = end if cut < 0 else cut
        try:
            numbers = msgspec.json.decode(b"[%b]" % body[start:cut], type=list[Byte])
        except msgspec.DecodeError:
            raise BadField("A file sent as numbers holds what is no byte; send base64.") from None
        pieces.append(bytes(numbers))
        start = cut + 1
    return b"".join(pieces)
