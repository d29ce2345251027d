"""JSON from a client: an object, and never more of it built than a request can need."""

import json
from typing import Any

import msgspec

from backend.api.arrival import FIELDS_BYTES
from backend.errors import BadField

_MAX_MARKS = 128 * 1024
"""Most commas and opening brackets, within strings or not: there are no more values than those, and
the longest text may be all commas."""


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


def _loaded(body: bytes) -> Any:
    if len(body) <= FIELDS_BYTES:
        # It takes halves of emoji, as programs send them that cut a text anywhere.
        return json.loads(body)
    # A recording is in it: `json` would widen all of that to four bytes a character for one emoji.
    return msgspec.json.decode(body)
