"""`POST /v1/tts` as a form: fields as text, recordings as files."""

from typing import Any

import msgspec
from fastapi import Request
from starlette.datastructures import UploadFile

from backend.api.arrival import FIELDS_BYTES, read_form
from backend.api.fish.body import MAX_SENT, FishSpeech, decode
from backend.api.json_body import check_values
from backend.errors import BadField, quoted

_IN_JSON = frozenset({"references", "prosody"})
"""Fields that are no plain text: sent as JSON."""
_RECORDINGS = "references"
_WORDS = "texts"
"""What is said in recordings that are sent as files, one for each."""


async def read_speech_form(request: Request, max_upload_bytes: int) -> bytes:
    """The form in msgpack, as `read_fields` takes it; raises as `read_form`."""
    form = await read_form(request, FIELDS_BYTES + max_upload_bytes, MAX_SENT)
    try:
        values: dict[str, Any] = {}
        for name, value in form.multi_items():
            if name == _RECORDINGS and isinstance(value, UploadFile):
                values.setdefault(name, []).append({"audio": await value.read()})
            elif isinstance(value, UploadFile):
                raise BadField(f"{quoted(name)} is sent as a file; send it as plain text.")
            elif name == _WORDS:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise BadField(f"{quoted(name)} is given twice; send it once.")
            elif value or name == "text":
                values[name] = _parsed(name, value) if name in _IN_JSON else value
    finally:
        await form.close()
    for recording, words in zip(values.get(_RECORDINGS, ()), values.pop(_WORDS, ()), strict=False):
        if isinstance(recording, dict):
            recording.setdefault("text", words)
    return msgspec.msgpack.encode(values)


def read_fields(body: bytes) -> FishSpeech:
    """The fields of such a form; raises `BadField`."""
    fields: FishSpeech = decode(body, "msgpack", FishSpeech, strict=False)
    return fields


def _parsed(name: str, value: str) -> Any:
    try:
        encoded = value.encode()
        check_values(encoded)
        return msgspec.json.decode(encoded)
    except (ValueError, RecursionError):
        raise BadField(f"{name} is no JSON; send it as JSON, or recordings as files.") from None
