"""The OpenAPI document: complete, with examples that are true, and every error in its shape."""

import asyncio
import functools
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from backend.api.openapi import errors, example
from backend.api.pace import OPEN_PATHS, is_paced
from backend.api.status import STATUS
from tests.scripted import client, make_app

Operation = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@functools.cache
def document() -> dict[str, Any]:
    return make_app().openapi()


def operations() -> Iterator[tuple[str, str, Operation]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def named(prefix: str) -> list[str]:
    return [f"{method} {path}" for method, path, _ in operations() if path.startswith(prefix)]


def operation(name: str) -> Operation:
    method, _, path = name.partition(" ")
    found: Operation = document()["paths"][path][method]
    return found


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or what it refers to."""
    found: dict[str, Any] = document()
    if "$ref" not in schema:
        return schema
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def has_example(content: dict[str, Any]) -> bool:
    return bool({"example", "examples"} & content.keys())


@pytest.mark.parametrize("name", named("/"))
def test_operation_says_what_it_does(name: str) -> None:
    told = operation(name)
    assert " " in told["summary"], f"{name} has the summary {told['summary']!r}: write a docstring"
    assert not told["summary"].endswith(".")
    assert told["tags"]
    described = {tag["name"] for tag in document()["tags"]}
    assert set(told["tags"]) <= described


@pytest.mark.parametrize("name", named("/"))
def test_operation_has_examples_of_what_it_takes(name: str) -> None:
    told = operation(name)
    for content in told.get("requestBody", {}).get("content", {}).values():
        assert has_example(content), f"{name} has no example of its body"
    for parameter in told.get("parameters", ()):
        assert has_example(parameter), f"{name} has no example of {parameter['name']}"


@pytest.mark.parametrize("name", named("/"))
def test_operation_has_examples_of_what_it_answers(name: str) -> None:
    told = operation(name)["responses"]
    assert any(status.startswith("2") for status in told)
    for status, response in told.items():
        assert response["description"]
        assert "X-Request-ID" in response["headers"]
        for kind, content in response.get("content", {}).items():
            if kind == "application/json" or not status.startswith("2"):
                assert has_example(content), f"{name} has no example of its {status}"


@pytest.mark.parametrize("name", named("/"))
def test_operation_documents_its_errors(name: str) -> None:
    method, _, path = name.partition(" ")
    told = operation(name)["responses"]
    assert "500" in told
    assert ("401" in told) == (path not in OPEN_PATHS)
    assert "421" in told
    assert ("403" in told) == (method != "get")
    assert ("429" in told) == is_paced(method.upper(), path)
    known = {str(status.value) for status in STATUS.values()}
    for status, response in told.items():
        if status.startswith("2"):
            continue
        assert status in known
        assert ("Retry-After" in response["headers"]) == (status in ("429", "503"))
        (content,) = response["content"].values()
        shown, schema = content["example"], resolved(content["schema"])
        assert shown.keys() == schema["properties"].keys()
        assert "ValidationError" not in str(content)


def test_errors_have_the_shape_of_their_route() -> None:
    ours = operation("post /tts")["responses"]["413"]["content"]["application/json"]["example"]
    assert ours.keys() == {"detail"}
    content = operation("post /v1/audio/speech")["responses"]["413"]["content"]["application/json"]
    assert content["example"].keys() == {"error"}
    assert content["example"]["error"]["message"] == ours["detail"]
    content = operation("post /v1/tts")["responses"]["413"]["content"]["application/json"]
    assert content["example"]["status"] == 413
    assert content["example"]["message"] == ours["detail"]


def test_what_counts_towards_the_rate() -> None:
    """All that changes, speaks, encodes or decodes something, and nothing that only tells."""
    counted = {name for name in named("/") if "429" in operation(name)["responses"]}
    gets = {name for name in named("/") if name.startswith("get ")}
    assert counted & gets == {"get /voices/{name}/audio"}
    assert set(named("/")) - counted - gets == {"post /v1/health"}


def test_keys_are_told() -> None:
    told = document()
    assert told["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert {} in told["security"], "keys are optional"
    assert told["paths"]["/health"]["get"]["security"] == []


def test_nothing_is_left_of_what_fastapi_says_of_errors() -> None:
    assert "HTTPValidationError" not in str(document())
    assert document()["components"]["schemas"]["Error"]["properties"].keys() == {"detail"}


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                yield from references(each)

    for reference in references(document()):
        assert reference.startswith("#/"), reference
        assert resolved({"$ref": reference})


def test_entries_of_errors_and_examples() -> None:
    assert errors(413, 503).keys() == {413, 503}
    with pytest.raises(KeyError):
        errors(418)
    assert example([1], "One.", 201)[201]["content"]["application/json"]["example"] == [1]


ASKED = [
    *(("get", path) for path in ("/", "/health", "/health/ready", "/hardware", "/system-status")),
    *(("get", path) for path in ("/emotions", "/metrics", "/metrics/files")),
    *(("post", path) for path in ("/optimize-for-hardware", "/cache/clear")),
    *(("post", path) for path in ("/estimate-memory", "/normalize")),
]


def test_examples_of_answers_are_true() -> None:
    """Every field of an example is one of the answer's, and every field of the top is shown."""

    async def work() -> None:
        async with client() as http:
            for method, path in ASKED:
                told = document()["paths"][path][method]
                takes_text = path in ("/estimate-memory", "/normalize")
                form = {"text": "Hello."} if takes_text else None
                answer = await http.request(method, path, data=form)
                shown = told["responses"]["200"]["content"]["application/json"]["example"]
                assert answer.json().keys() == shown.keys(), path
                assert_is_part_of(shown, answer.json(), path)

    run(work())


def assert_is_part_of(shown: Any, answered: Any, where: str) -> None:
    if isinstance(shown, dict) and isinstance(answered, dict):
        for name in shown.keys() - {"refusals", "first_audio_s"}:
            assert name in answered, f"{where} has no {name}"
            assert_is_part_of(shown[name], answered[name], f"{where}.{name}")
