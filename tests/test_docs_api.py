"""MDs/API.md says what the OpenAPI document says: routes, bodies, fields, statuses, answers.

What either has and the other has not fails here, and so does a limit or default that differs.
"""

import ast
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from backend.api.live_body import _MESSAGES
from backend.api.openapi import JSON
from backend.api.pace import OPEN_PATHS
from backend.api.schemas import FIELD_NAMES
from backend.api.sse import EVENT_STREAM
from backend.api.status import STATUS
from tests.documents import DOCUMENTS, FENCE, ROOT, Table, section, table, tables, text_of
from tests.scripted import make_app

PAGE = "API.md"
MOST_LINES = 950
ROUTES = ("route", "purpose", "body", "answer", "errors")
FIELDS = ("field", "type and limits", "default", "meaning")
BODIES = {
    "multipart/form-data": "multipart",
    "application/x-www-form-urlencoded": "urlencoded",
    JSON: "JSON",
    "application/msgpack": "msgpack",
}
"""What the page calls a body's media type."""
BESIDE_THE_DOCUMENT = frozenset({405})
"""Answered where no route is: to a wrong method."""

Operation = dict[str, Any]
Schema = dict[str, Any]


@functools.cache
def document() -> dict[str, Any]:
    return make_app().openapi()


def operations() -> dict[str, Operation]:
    """Every operation by what the page calls it, `POST /tts`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


OPERATIONS = operations()


def resolved(schema: Schema) -> Schema:
    """`schema`, or what it refers to."""
    found: Schema = document()
    if "$ref" not in schema:
        return schema
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


# -- routes ----------------------------------------------------------------------------------------


def shown_routes() -> dict[str, tuple[str, ...]]:
    """The rows of the table at the top, WebSockets left out."""
    rows = {row[0].strip("`"): row[1:] for row in table(PAGE, *ROUTES).rows}
    return {route: row for route, row in rows.items() if not route.startswith("WS ")}


def test_the_page_is_short() -> None:
    assert len(text_of(PAGE).splitlines()) <= MOST_LINES


def test_the_page_has_every_route_and_no_other() -> None:
    assert list(shown_routes()) == list(dict.fromkeys(shown_routes()))
    assert shown_routes().keys() == OPERATIONS.keys()
    listed = [row[0].strip("`") for row in table(PAGE, *ROUTES).rows]
    assert [route for heading in headings() for route in routes_in(heading)] == listed


def headings() -> list[str]:
    """Those of sections that describe routes."""
    return re.findall(r"^## (`\w+ /.*`)$", text_of(PAGE), re.MULTILINE)


def routes_in(heading: str) -> list[str]:
    return re.findall(r"`(\w+ /[^`]*)`", heading)


def section_of(route: str) -> str:
    (heading,) = (each for each in headings() if route in routes_in(each))
    return section(PAGE, f"## {heading}")


@pytest.mark.parametrize("route", OPERATIONS)
def test_route_takes_and_answers_what_the_table_says(route: str) -> None:
    operation, (_, body, answer, errors) = OPERATIONS[route], shown_routes()[route]
    kinds = operation.get("requestBody", {}).get("content", {})
    assert sorted(body.split(", ") if body else ()) == sorted(BODIES[kind] for kind in kinds)
    statuses = set(operation["responses"])
    successes = {status for status in statuses if status.startswith("2")}
    assert answer == ", ".join(sorted(successes))
    # What the page says of all routes at once.
    assert {"421", "500"} <= statuses
    assert ("403" in statuses) == (not route.startswith("GET "))
    assert ("401" in statuses) == (route.split()[1] not in OPEN_PATHS)
    assert errors.split() == sorted(statuses - successes - {"401", "403", "421", "500"})


@pytest.mark.parametrize("route", OPERATIONS)
def test_route_has_a_line_to_paste(route: str) -> None:
    lines = r"^(?:curl .*| +)\"?http://127\.0\.0\.1:8000(/[^\s?\"]*)"
    called = re.findall(lines, section_of(route), re.MULTILINE)
    assert any(template(route).fullmatch(each) for each in called), f"{route} has no line to paste"


def template(route: str) -> re.Pattern[str]:
    """What the path of a call of `route` looks like."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.split()[1])))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_route_is_invented(name: str) -> None:
    text = text_of(name)
    named = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`\s]*)`", text))
    assert named <= OPERATIONS.keys()
    paths = [template(route) for route in OPERATIONS]
    called = re.findall(r"http://(?:127\.0\.0\.1|localhost):8000(/[\w/-]*)", text)
    for each in set(called) - {"/docs", "/v1"}:  # the base URL of OpenAI's clients
        assert any(path.fullmatch(each) for path in paths), each


# -- fields ----------------------------------------------------------------------------------------


def taken(operation: Operation) -> dict[str, tuple[str, str]]:
    """Of each field of the query and the bodies: its type with its limits, and its default."""
    found = {
        each["name"]: (limits_of(each["schema"]), default_of(each["schema"]))
        for each in operation.get("parameters", ())
        if each["in"] == "query"
    }
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = resolved(content["schema"])
        for name, field in schema.get("properties", {}).items():
            is_needed = name in schema.get("required", ())
            told = (limits_of(field), "required" if is_needed else default_of(field))
            assert found.setdefault(name, told) == told, f"{name} differs between the bodies"
    return found


def limits_of(schema: Schema) -> str:
    """The type of a field with its limits, in the page's words; what is as good as not given is
    left out."""
    schema = resolved(schema)
    if choices := [str(each) for each in schema.get("enum", ()) if each]:
        return " ".join(choices)
    if "anyOf" in schema:
        told = [limits_of(each) for each in schema["anyOf"] if not is_nothing(each)]
        return " or ".join(dict.fromkeys(told))
    if "const" in schema:
        return str(schema["const"])
    kinds = schema.get("type", "")
    kind = next(each for each in kinds if each != "null") if isinstance(kinds, list) else kinds
    if schema.get("format") == "binary" or "contentEncoding" in schema:
        return "file"
    if kind == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        many = f", {least or 0} to {most}" if most else ""
        return f"list of {limits_of(schema['items'])}{many}"
    if kind == "string":
        least, most = schema.get("minLength"), schema.get("maxLength")
        return "text" + (f", at most {most} characters" if most else ", not empty" * bool(least))
    if kind in ("number", "integer") and "maximum" in schema:
        words = "number" if kind == "number" else "whole number"
        return f"{words}, {figure(schema['minimum'])} to {figure(schema['maximum'])}"
    return {"boolean": "true or false", "object": "object"}[kind]


def is_nothing(schema: Schema) -> bool:
    """Whether such a value is as good as not given: null, or what forms send for it."""
    return schema.get("type") == "null" or None in schema.get("enum", ())


def figure(number: float) -> str:
    return "2⁶³ − 1" if number >= 2**62 else f"{int(number) if number == int(number) else number}"


def default_of(schema: Schema) -> str:
    default = schema.get("default")
    if default in (None, "", []):
        return ""
    if isinstance(default, float):
        return figure(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def shown_fields(route: str) -> dict[str, tuple[str, ...]]:
    """Those of its own table, and those that its section says are as in another route."""
    found = {
        row[0].strip("`"): row[1:3]
        for each in tables(PAGE)
        if each.header == FIELDS and route in routes_in(each.heading)
        for row in each.rows
    }
    shared = r"[Ff]ields as in `(\w+ /[^`]*)`[^:`]*:\s((?:`\w+`,?\s?)+)"
    for other, names in re.findall(shared, section_of(route)):
        told = shown_fields(other)
        for name in re.findall(r"\w+", names):
            limits, default = told[name]
            found[name] = (limits, "" if default == "required" else default)
    return found


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_field_is_documented_and_none_is_invented(route: str) -> None:
    assert shown_fields(route) == taken(OPERATIONS[route])


def test_the_upload_of_tts_is_among_its_fields() -> None:
    assert set(FIELD_NAMES) == shown_fields("POST /tts").keys()


def test_messages_of_the_live_route_are_documented() -> None:
    rows = {
        row[0].strip("`"): row[1]
        for row in table(PAGE, "from the client", "fields", "meaning").rows
    }
    assert rows.keys() == _MESSAGES.keys()
    for kind, (_, names) in _MESSAGES.items():
        assert set(re.findall(r"`(\w+)`", rows[kind])) == set(names) - {"type"}


# -- answers ---------------------------------------------------------------------------------------


def examples(operation: Operation, kind: str) -> Iterator[Any]:
    """Those of the answers of that media type."""
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get(kind, {})
        if status.startswith("2") and "example" in content:
            yield content["example"]


def keys_of(value: Any) -> set[str]:
    """Of all objects in `value`."""
    if isinstance(value, dict):
        return set(value).union(*(keys_of(each) for each in value.values()))
    return set().union(*(keys_of(each) for each in value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("route", OPERATIONS)
def test_answer_is_documented(route: str) -> None:
    text = section_of(route)
    if same := re.search(r"Answers\sas\s`(\w+ /[^`]*)`", text):
        text += section_of(same[1])
    told = set(re.findall(r'"(\w+)":', text)) | set(re.findall(r"`(\w+)`", text))
    for answer in examples(OPERATIONS[route], JSON):
        assert set(answer) <= told, f"{route} answers {set(answer) - told} too"


@pytest.mark.parametrize("route", OPERATIONS)
def test_no_answer_is_invented(route: str) -> None:
    known = set().union(*(keys_of(each) for each in examples(OPERATIONS[route], JSON)))
    shown = [each for each in FENCE.findall(section_of(route)) if each.startswith("```\n")]
    assert set(re.findall(r'"(\w+)":', "".join(shown))) <= known


def event_rows() -> Table:
    return table(PAGE, "event", "when", "fields")


def test_events_are_documented() -> None:
    (stream,) = examples(OPERATIONS["POST /tts"], EVENT_STREAM)
    sent = [json.loads(data) for data in re.findall(r"^data: (.*)$", stream, re.MULTILINE)]
    rows = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in event_rows().rows}
    assert rows.keys() >= {each["type"] for each in sent}
    for each in sent:
        named = rows[each["type"]]
        assert each.keys() - {"type"} <= named, each["type"]
        assert named <= keys_of(each), each["type"]


# -- headers and statuses --------------------------------------------------------------------------


def sent_headers() -> set[str]:
    """Every header that the code names: string constants that look like one."""
    looks = re.compile(r"X-[A-Za-z-]+|Retry-After|Allow")
    files = [*(ROOT / "backend" / "api").rglob("*.py"), ROOT / "backend" / "app.py"]
    return {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and looks.fullmatch(node.value)
    }


def test_every_header_is_documented() -> None:
    sent = sent_headers()
    assert {"X-Request-ID", "X-Engine", "Retry-After", "Allow"} <= sent
    named = set(re.findall(r"`(X-[A-Za-z-]+|Retry-After|Allow)`", text_of(PAGE)))
    assert named == sent
    rows = table(PAGE, "header", "meaning").rows
    assert {row[0].strip("`") for row in rows} == sent - {"Retry-After", "Allow"}


def test_every_status_is_documented() -> None:
    rows = table(PAGE, "status", "when").rows
    described = [int(status) for row in rows for status in row[0].split(", ")]
    known = {status.value for status in STATUS.values()}
    assert set(described) == known | BESIDE_THE_DOCUMENT
    assert len(set(described)) == len(described)
    answered = {int(status) for each in OPERATIONS.values() for status in each["responses"]}
    assert {status for status in answered if status >= 400} <= set(described)
