"""The shape of an error: ours, OpenAI's or Fish's, by the route that was asked."""

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from backend.api.fish import body as fish_body
from backend.api.openai import body as openai_body

_FISH_PATHS = ("/v1/tts", "/model", "/v1/references", "/v1/health", "/wallet")
_OPENAI_PATHS = ("/v1",)
"""All below it that is not Fish's."""


def error_body(path: str, status: int, detail: str, code: str = "") -> dict[str, Any]:
    """What a client of the routes at `path` reads an error from."""
    if _is_under(path, _FISH_PATHS):
        return fish_body.error_body(path, status, detail)
    if _is_under(path, _OPENAI_PATHS):
        return openai_body.error_body(status, detail, code)
    return {"detail": detail}


def error_status(path: str, status: int) -> int:
    """`status` as clients of `path` know it: OpenAI's have no 422."""
    is_openai = _is_under(path, _OPENAI_PATHS) and not _is_under(path, _FISH_PATHS)
    return 400 if status == 422 and is_openai else status


def error_response(
    path: str, status: int, detail: str, code: str = "", headers: dict[str, str] | None = None
) -> Response:
    """The answer to a request at `path` that failed; `code` is the domain error's."""
    # What a client sent may be quoted in it, and need not be valid Unicode.
    readable = detail.encode("utf-8", "backslashreplace").decode("utf-8")
    status = error_status(path, status)
    return JSONResponse(error_body(path, status, readable, code), status, headers)


def takes_response(scope: Scope) -> bool:
    """Whether it can be answered: every request, and a WebSocket that the server can deny so."""
    is_http: bool = scope["type"] == "http"
    return is_http or "websocket.http.response" in scope.get("extensions", {})


def _is_under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)
