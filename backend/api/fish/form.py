"""`POST /v1/tts` as a form: fields as text, recordings as files."""

from itertools import zip_longest
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
    values: dict[str, Any] = {}
    files: list[bytes] = []
    words: list[str] = []
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != _RECORDINGS:
                    raise BadField(f"{quoted(name)} is sent as a file; send it as plain text.")
                files.append(await value.read())
            elif name == _WORDS:
                words.append(value)
            elif name in values:
                raise BadField(f"{quoted(name)} is given twice; send it once.")
            elif value or name == "text":
                values[name] = _parsed(name, value) if name in _IN_JSON else value
    finally:
        await form.close()
    if files and _RECORDINGS in values:
        raise BadField(f"{_RECORDINGS} is given twice, as JSON and as files; send it once.")
    if files:
        said = zip_longest(files, words[: len(files)], fillvalue="")
        values[_RECORDINGS] = [{"audio": audio, "text": text} for audio, text in said]
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
