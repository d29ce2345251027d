"""A request's body, refused while it arrives once it is larger than it may be."""

from fastapi import Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Message

from backend.api.scratch import on_disk
from backend.core import MIB
from backend.errors import BadField, UploadTooLarge

FIELDS_BYTES = 4 * MIB
"""Room for all fields but uploads: 100,000 characters are at most 1.2 MB in any encoding."""
_MAX_FIELDS = 200


async def read_bytes(request: Request, max_bytes: int, advice: str = "send less") -> bytes:
    """The body. `UploadTooLarge` with `advice` past `max_bytes`."""
    return await _limited(request, max_bytes, advice).body()


async def read_form(
    request: Request, max_bytes: int, max_files: int = 1, advice: str = "send less"
) -> FormData:
    """The form in the body, files past 1 MB on disk; close it after use.

    Raises `BadField` for what is no form, `UploadTooLarge` with `advice` past `max_bytes`,
    `StorageFull`.
    """
    try:
        with on_disk():
            return await _limited(request, max_bytes, advice).form(
                max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=max_bytes
            )
    except HTTPException as error:
        raise BadField(f"The form cannot be read: {error.detail}") from None


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
