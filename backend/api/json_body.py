"""JSON from a client: an object, and never more of it built than a request can need."""

import base64
import json
from typing import Any

import msgspec

from backend.api.arrival import FIELDS_BYTES
from backend.errors import BadField

_MAX_MARKS = 128 * 1024
"""Most commas and opening brackets, within strings or not: there are no more values than those, and
the longest text may be all commas."""
_PIECE_CHARACTERS = 256 * 1024
"""Of base64, decoded in one go: a multiple of four. Between two of them the event loop gets on."""


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


def from_base64(text: object) -> bytes:
    """The file in a field; `ValueError` where it is not one in base64."""
    if not isinstance(text, str):
        raise ValueError("it is no string")
    starts = range(0, len(text), _PIECE_CHARACTERS)
    pieces = (text[start : start + _PIECE_CHARACTERS] for start in starts)
    return b"".join([base64.b64decode(piece, validate=True) for piece in pieces])


def _loaded(body: bytes) -> Any:
    if len(body) <= FIELDS_BYTES:
        # It takes halves of emoji, as programs send them that cut a text anywhere.
        return json.loads(body)
    # A recording is in it: `json` would widen all of that to four bytes a character for one emoji.
    return msgspec.json.decode(body)
