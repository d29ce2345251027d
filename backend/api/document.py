"""The OpenAPI document beyond what FastAPI knows: keys, ids, errors that every route may answer."""

from typing import Any

from fastapi import FastAPI

from backend.api.openapi import JSON, OUR_ERROR, error
from backend.api.pace import OPEN_PATHS, SAFE_METHODS, is_paced
from backend.api.paths import GET_SPEECH
from backend.api.shape import error_body, error_status

_RETRIED = frozenset({"429", "503"})
_NAMED = {
    "/voices/{name}": "anna",
    "/voices/{name}/audio": "anna",
    "/voices/{name}/export": "anna",
    "/model/{model_id}": "5f1c0b2a9d3e4f605f1c0b2a9d3e4f60",
    "/v1/models/{name}": "fish",
    "/metrics/files/{name}": "synthesis_generic_cpu_20261123_025440.csv",
}
"""Examples of what a path names."""
_TAGS = {
    "speech": "Text in, speech out. Text may also come piece by piece over the WebSocket "
    "`/v1/audio/stream`, which this page cannot show: see MDs/API.md.",
    "voices": "Voices that are saved, and spoken in by name.",
    "openai": "What clients of OpenAI's speech API call.",
    "fish": "What clients of Fish Audio and of the Fish Speech server call. The WebSocket "
    "`/v1/tts/live` is theirs too.",
    "machine": "What the machine is, how it fares, and what it can be asked to do about it.",
    "system": "How the server is.",
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of `SHOAL_API_KEYS`."},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same key in a header of its own.",
    },
}
_HEADERS = {
    "RequestId": {
        "description": "The request's id, as in the log; one that the client sent is kept.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9._:\-]{1,64}$"},
        "example": "5f1c0b2a9d3e4f60",
    },
    "RetryAfter": {
        "description": "Seconds until it is worth another try.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 5,
    },
}
_ERROR_SCHEMA = {
    "type": "object",
    "title": "Error",
    "properties": {
        "detail": {"type": "string", "description": "What is wrong, and what to do about it."}
    },
    "required": ["detail"],
    "additionalProperties": False,
}


def describe(app: FastAPI) -> None:
    """Let `app.openapi()` tell all of it; call it once, when all routes are there."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain())
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign] # as FastAPI says to extend it


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    document["info"]["description"] = (
        "Every answer has `X-Request-ID`. Every error says in one sentence what is wrong and what "
        "to do. Where the server has API keys, every route but `/health` asks for one."
    )
    document["servers"] = [{"url": "/", "description": "This server."}]
    document["security"] = [{}, *({name: []} for name in _SECURITY)]
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)
            _add_examples(path, operation, schemas)
    used = {
        tag
        for operations in document["paths"].values()
        for operation in operations.values()
        for tag in operation.get("tags", ())
    }
    document["tags"] = [
        {"name": name, "description": text} for name, text in _TAGS.items() if name in used
    ]
    components["securitySchemes"] = _SECURITY
    components["headers"] = _HEADERS
    schemas["Error"] = _ERROR_SCHEMA
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    _move_summary(operation)
    responses: dict[str, Any] = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        # FastAPI's own describes what `app.py` never sends, and any text will do in a path.
        del responses["422"]
        if any(each["in"] == "query" for each in operation.get("parameters", ())):
            responses["422"] = error(422)
    added = [421, 500]
    if path in OPEN_PATHS:
        operation["security"] = []
    else:
        added.append(401)
    if method.upper() not in SAFE_METHODS or path == GET_SPEECH:
        added.append(403)
    if is_paced(method.upper(), path):
        added.append(429)
    if "requestBody" in operation:
        added += [408, 503]
    if "422" in responses and error_status(path, 422) != 422:
        del responses["422"]
        added.append(error_status(path, 422))
    for number in added:
        responses.setdefault(str(number), error(number))
    for status, response in responses.items():
        _shape(path, status, response)
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = {"$ref": "#/components/headers/RequestId"}
        if status in _RETRIED:
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    operation["responses"] = dict(sorted(responses.items()))


def _move_summary(operation: dict[str, Any]) -> None:
    """The first sentence of the docstring, for one that was made from the function's name."""
    made = operation["summary"].lower().replace(" ", "_")
    first, _, rest = operation.get("description", "").partition("\n\n")
    if first and operation["operationId"].startswith(made):
        operation["summary"] = " ".join(first.split()).removesuffix(".")
        operation["description"] = rest
        if not rest:
            del operation["description"]


def _add_examples(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """From the examples and defaults of fields, where a route gives none of the whole."""
    for parameter in operation.get("parameters", ()):
        if not {"example", "examples"} & parameter.keys():
            default = _example_of(parameter["schema"], schemas)
            is_path = parameter["in"] == "path"
            parameter["example"] = _NAMED.get(path, default) if is_path else default
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get(JSON, {})
        is_model = "$ref" in content.get("schema", {}) and status.startswith("2")
        if is_model and not {"example", "examples"} & content.keys():
            content["example"] = _example_of(content["schema"], schemas)


def _example_of(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "array":
        return [_example_of(schema["items"], schemas)]
    if schema.get("type") == "object":
        return {name: _example_of(each, schemas) for name, each in schema["properties"].items()}
    return ""


def _shape(path: str, status: str, response: dict[str, Any]) -> None:
    """Give an error of ours the shape that clients of `path` read."""
    content = response.get("content", {}).get(JSON, {})
    if content.get("schema") != OUR_ERROR:
        return
    sentence = content["example"]["detail"]
    body = error_body(path, int(status), sentence, "error")
    if "detail" not in body or len(body) > 1:
        response["content"] = {JSON: {"schema": _schema_of(body), "example": body}}


def _schema_of(value: Any) -> dict[str, Any]:
    """A schema that `value` and its like meet; text may always be missing, as null."""
    if isinstance(value, dict):
        properties = {name: _schema_of(each) for name, each in value.items()}
        return {"type": "object", "properties": properties, "required": list(value)}
    if isinstance(value, list):
        return {"type": "array"}
    if isinstance(value, bool):
        return {"type": "boolean"}
    return {"type": "integer"} if isinstance(value, int) else {"type": ["string", "null"]}
