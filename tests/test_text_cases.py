"""Texts that other servers were reported to read wrongly, each by the road that it comes on.

`tests/text_cases.json` holds them, one a line. `route` is the road: norm is the normaliser, split
that and the segmenter (`sentences` is how many), live the text typed letter by letter into
`WS /v1/audio/stream`, http `POST /v1/audio/speech`. What is said must hold each of `has` and none
of `no`, commas aside; "400 or quiet" is an answer of 400, or silence.
"""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.text.normalize import normalize
from backend.text.sentences import split_text
from tests.scripted import children, client, server
from tests.test_api_live import END, hear, live, say, text

CASES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("text_cases.json").read_text("utf-8")
)
LONGEST_SENTENCE = 300
QUIET = 100
"""Of 32,767: the scripted worker's tone is a hundred times louder."""


def of_route(name: str) -> pytest.MarkDecorator:
    cases = [case for case in CASES if case["route"] == name]
    return pytest.mark.parametrize(
        "case", cases, ids=[f"{case['kind']}: {case['text'][:40]!r}" for case in cases]
    )


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def check(case: dict[str, Any], said: str) -> None:
    said = said.replace(",", "")
    for part in case.get("has", ()):
        assert part.replace(",", "") in said
    for part in case["no"]:
        assert part not in said


def test_there_are_cases_of_every_route_and_kind() -> None:
    assert {case["route"] for case in CASES} == {"norm", "split", "live", "http"}
    assert len({case["kind"] for case in CASES}) == 14
    assert len(CASES) == 44


@of_route("norm")
def test_normalised(case: dict[str, Any]) -> None:
    check(case, normalize(case["text"], case["language"]))


@of_route("split")
def test_split(case: dict[str, Any]) -> None:
    sentences = split_text(normalize(case["text"], case["language"]), LONGEST_SENTENCE)
    assert len(sentences) == case["sentences"], sentences
    check(case, " ".join(sentence.text for sentence in sentences))


@of_route("live")
def test_typed(case: dict[str, Any]) -> None:
    async def work() -> None:
        async with server() as http, live(http) as socket:
            start = {"type": "session.start", "language": case["language"]}
            await say(socket, start, *map(text, case["text"]), END)
            said, _ = await hear(socket)
            assert said[-1]["type"] == "done", said[-1]
            spoken = [each["text"] for each in said if each["type"] == "sentence.start"]
            check(case, " ".join(spoken))

    run(work())


@of_route("http")
def test_of_openais_clients(case: dict[str, Any]) -> None:
    async def work() -> None:
        async with client() as http:
            body = {"model": "tts-1", "voice": "alloy", "input": case["text"]}
            answer = await http.post("/v1/audio/speech", json=body | {"response_format": "pcm"})
            if answer.status_code != 400:
                assert answer.status_code == 200, answer.text
                samples = np.frombuffer(answer.content, "<i2")
                assert len(samples) and np.abs(samples).max() < QUIET

    run(work())
