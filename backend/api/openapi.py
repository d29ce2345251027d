"""What routes tell the OpenAPI document: their errors, and examples of their answers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from backend.api.sse import EVENT_STREAM, event

Responses = dict[int | str, dict[str, Any]]
"""What a route's `responses` takes: of each status its description and content."""

JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
MSGPACK = "application/msgpack"
FORMS = (MULTIPART, URLENCODED)
Schema = dict[str, Any]
OUR_ERROR = {"$ref": "#/components/schemas/Error"}
_ERRORS: dict[int, tuple[str, str]] = {
    400: ("The text is blank.", "text is blank; send what is to be spoken."),
    401: (
        "The server asks for an API key, and none or a wrong one was sent.",
        "An API key is needed; send Authorization: Bearer <key>, or X-API-Key.",
    ),
    403: (
        "A web page of another origin sent it.",
        "A page of another origin sent this; SHOAL_CORS_ORIGINS names the origins that may.",
    ),
    404: (
        "There is no such voice, file or route.",
        "There is no voice anna; GET /voices lists the saved ones.",
    ),
    405: ("The route does not take this method; `Allow` says which.", "/tts does not take GET."),
    408: ("The body did not arrive in time.", "The body did not come in time; send it faster."),
    409: (
        "It is taken, or made for another checkpoint.",
        "There is a voice anna; choose another name, or delete it first.",
    ),
    413: (
        "The text or the upload is too large.",
        "text has 100001 characters; send at most 100000 at once.",
    ),
    415: (
        "The body is of a type that is not understood.",
        "The body is neither JSON nor msgpack; set Content-Type.",
    ),
    421: (
        "The server listens on this machine alone and is not called what `Host` says.",
        "This server is not called 'shoal.example'; call it localhost or 127.0.0.1, or name it in "
        "SHOAL_ALLOWED_HOSTS.",
    ),
    422: (
        "A field is wrong or unknown; the message says which, and how to put it right.",
        "Unknown field 'temprature'; did you mean temperature?",
    ),
    429: (
        "This client asks more often than it may.",
        "More than 60 requests in a minute; try again in 12 s.",
    ),
    500: (
        "The server or its worker made a mistake; the log tells more under the request's id.",
        "The server made a mistake; its log tells more under 5f1c0b2a9d3e4f60.",
    ),
    503: (
        "The worker is not ready, memory is short, the queue is full, or uploads hold all room "
        "for them; try again after `Retry-After` seconds.",
        "The worker is starting: it loads shoal-demo. Try again in a moment.",
    ),
    504: (
        "The request took longer than its deadline.",
        "The request was not spoken in time, 30 s; send less text or allow more.",
    ),
    507: (
        "No more is kept: the number of voices or their room is at its limit.",
        "1000 voices are saved, which is the limit; delete one.",
    ),
}
"""Of each status that is an error: when it is answered, and the sentence of its example."""


def request_body(
    kinds: Iterable[str],
    schema: Schema | Callable[[str], Schema],
    example: Any | Callable[[str], Any],
    *,
    is_required: bool = True,
) -> dict[str, Any]:
    """A route's `openapi_extra` for a body that the route reads itself: FastAPI cannot know it.

    `schema` and `example` may be functions of the kind of body.
    """
    content = {
        kind: {
            "schema": schema(kind) if callable(schema) else schema,
            "example": example(kind) if callable(example) else example,
        }
        for kind in kinds
    }
    required = {"required": True} if is_required else {}
    return {"requestBody": required | {"content": content}}


def file_in(kind: str, description: str = "") -> Schema:
    """The schema of a file in a body of that `kind`: in JSON it is base64."""
    coded = {"contentEncoding": "base64"} if kind == JSON else {"format": "binary"}
    told = {"description": description} if description else {}
    return {"type": "string"} | coded | told


def errors(*statuses: int) -> Responses:
    """A route's `responses` for those `statuses`: description, schema and example of each.

    401, 403, 408, 421, 429 and 500 need not be named, nor 503 where there is a body:
    `document.describe` adds them where they apply. It also gives the routes of OpenAI and Fish
    their own shape of an error.
    """
    return {status: error(status) for status in statuses}


def example(value: Any, description: str, status: int = 200) -> Responses:
    """A route's `responses` for an answer in JSON, with `value` as its example."""
    return {status: {"description": description, "content": {JSON: {"example": value}}}}


def event_stream(events: Sequence[dict[str, Any]], *, is_named: bool) -> dict[str, Any]:
    """The `content` of an answer in server-sent events, with `events` as its example."""
    properties = {name: {"type": "string"} for name in (("event",) if is_named else ())}
    properties["data"] = {"type": "string"}
    shown = [
        event(each["type"], is_named=is_named, **{k: v for k, v in each.items() if k != "type"})
        for each in events
    ]
    return {
        EVENT_STREAM: {
            # Of one event, as OpenAPI has it.
            "schema": {"type": "object", "properties": properties, "required": list(properties)},
            "example": b"".join(shown).decode(),
        }
    }


def error(status: int) -> dict[str, Any]:
    """What is said of one `status`."""
    description, sentence = _ERRORS[status]
    content = {JSON: {"schema": OUR_ERROR, "example": {"detail": sentence}}}
    return {"description": description, "content": content}
