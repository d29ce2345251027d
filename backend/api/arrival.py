"""A request's body, refused while it arrives once it is larger than it may be."""

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Message

from backend.api.scratch import on_disk
from backend.core import MIB
from backend.errors import BadField, UploadTooLarge, quoted

FIELDS_BYTES = 2 * MIB
"""Room for all fields but uploads: 100,000 characters are at most 1.2 MB in any encoding, and the
names of a thousand voices 0.8 MB."""
_MAX_FIELDS = 200
"""Of one form. The headers of each, its name and its file's among them, python-multipart bounds."""
_UTF_8 = (b"", b"utf-8", b"utf8")


async def read_bytes(request: Request, max_bytes: int, advice: str = "send less") -> bytes:
    """The body. `UploadTooLarge` with `advice` past `max_bytes`."""
    return await _limited(request, max_bytes, advice).body()


async def read_form(
    request: Request, max_bytes: int, max_files: int = 1, advice: str = "send less"
) -> FormData:
    """The form in the body, files past 1 MB on disk; close it after use.

    Raises `BadField` for what is no form, `UploadTooLarge` with `advice` past `max_bytes` and where
    the fields beside files take more than `FIELDS_BYTES`, `StorageFull`.
    """
    _check_encoding(request)
    try:
        with on_disk():
            form = await _limited(request, max_bytes, advice).form(
                max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=max_bytes
            )
    except HTTPException as error:
        raise BadField(f"The form cannot be read: {error.detail}") from None
    try:
        check_fields(sum(len(each) for _, each in form.multi_items() if isinstance(each, str)))
    except UploadTooLarge:
        await form.close()
        raise
    return form


def check_fields(size_bytes: int) -> None:
    """Raise `UploadTooLarge` where the fields beside uploads are larger than `FIELDS_BYTES`."""
    if size_bytes > FIELDS_BYTES:
        raise UploadTooLarge(
            f"The fields take {size_bytes} bytes beside uploads; send at most {FIELDS_BYTES}."
        )


def _check_encoding(request: Request) -> None:
    """Python knows encodings that take quadratic time, and some that fail by themselves."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    named = options.get(b"charset", b"")
    if named.lower() not in _UTF_8:
        raise BadField(f"charset={quoted(named.decode('latin-1'))} is not read; send UTF-8.")


def _limited(request: Request, max_bytes: int, advice: str) -> Request:
    received_bytes = 0

    def check(size_bytes: int) -> None:
        if size_bytes > max_bytes:
            raise UploadTooLarge(f"The request is larger than the server takes; {advice}.")

    async def receive() -> Message:
        nonlocal received_bytes
        message = await request.receive()
        received_bytes += len(message.get("body", b""))
        check(received_bytes)
        return message

    declared = request.headers.get("content-length", "")
    check(int(declared) if declared.isascii() and declared.isdigit() else 0)
    return Request(request.scope, receive)
