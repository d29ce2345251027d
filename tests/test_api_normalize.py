"""`POST /normalize`: what would be read of a text, over HTTP."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from backend.core import LANGUAGES, Line, Sentence
from backend.serving import intake
from backend.serving.script import Spelling, written
from tests.scripted import client

PATH = "/normalize"
TEXT = "# News\n\nDr. Lee paid $5 on May 3. He left at 5 p.m.\n\nIt was 21 °C that evening."
SAID = (
    "News. Doctor Lee paid five dollars on May third. He left at five PM.\n\n"
    "It was twenty-one degrees Celsius that evening."
)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize("form", ["data", "json"])
def test_what_will_be_read(form: str) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(PATH, **{form: {"text": TEXT}})  # type: ignore[arg-type]
            assert answer.status_code == 200, answer.text
            assert answer.json() == {
                "text": SAID,
                "language": "en",
                "sentences": [
                    "News. Doctor Lee paid five dollars on May third.",
                    "He left at five PM.",
                    "It was twenty-one degrees Celsius that evening.",
                ],
            }

    run(work())


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_what_is_spoken(stream: bool) -> None:
    text = TEXT + " The 2nd of 3 was 1,234 m long, as they said on 5/6/2024. " * 40

    async def work() -> None:
        async with client() as http:
            told = (await http.post(PATH, json={"text": text})).json()
            answer = await http.post(
                "/tts", json={"text": text, "long_text": "split", "timestamps": True}
            )
            spoken = answer.json()
            assert told["sentences"] == [each["text"] for each in spoken["sentences"]]
            assert spoken["text"] == " ".join(told["sentences"])

    run(work())


def test_the_language_is_the_one_that_was_sent_or_that_of_the_text() -> None:
    async def work() -> None:
        async with client() as http:
            for text, language, decided in (
                ("Ich habe 3 Katzen und 2 Hunde, und das ist gut so.", "auto", "de"),
                ("There are 3 cats in the house.", "auto", "en"),
                ("3", "fr", "fr"),
                ("今天有3只猫。", "auto", "zh"),
            ):
                told = (await http.post(PATH, json={"text": text, "language": language})).json()
                assert told["language"] == decided, text
            for language in LANGUAGES:
                answer = await http.post(PATH, data={"text": "3 x", "language": language})
                assert answer.json()["language"] == ("en" if language == "auto" else language)

    run(work())


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({}, 422, "text is missing"),
        ({"text": ""}, 400, "blank"),
        ({"text": " \n "}, 400, "blank"),
        ({"text": "\u200b"}, 400, "nothing that can be spoken"),
        ({"text": "a" * 100_001}, 413, "at most 100000"),
        ({"text": "Hi.", "language": "xx"}, 422, "language"),
        ({"text": "Hi.", "langage": "en"}, 422, "did you mean language"),
        ({"text": ["Hi."]}, 422, "text"),
        ({"text": "Hi.", "speaker_file": "AAAA"}, 422, "leave it out"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], status: int, told: str) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(PATH, json=fields)
            assert (answer.status_code, told in answer.json()["detail"]) == (status, True), (
                answer.text
            )

    run(work())


def test_the_guard_stands_before_it() -> None:
    async def work() -> None:
        async with client(api_keys="ann:secret", rate_limit_per_minute=2) as http:
            body = {"text": "Hi."}
            assert (await http.post(PATH, json=body)).status_code == 401
            key = {"Authorization": "Bearer secret"}
            answers = [await http.post(PATH, json=body, headers=key) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]
            foreign = {**key, "Origin": "http://elsewhere.example"}
            assert (await http.post(PATH, json=body, headers=foreign)).status_code == 403

    run(work())


def test_it_is_503_until_the_worker_is_there() -> None:
    async def work() -> None:
        async with client({"exit_at_start": True}, is_ready=False) as http:
            answer = await http.post(PATH, json={"text": "Hi."})
            assert answer.status_code == 503 and "Retry-After" in answer.headers

    run(work())


def test_a_long_text_is_read_in_turns_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[bool] = []

    def noted(script: tuple[Line, ...], spelling: Spelling) -> Iterator[list[Sentence]]:
        for sentences in written(script, spelling):
            threads.append(threading.current_thread() is threading.main_thread())
            yield sentences

    monkeypatch.setattr(intake, "written", noted)
    text = "In 1984 there were 1234 of them, or so they said.\n\n" * 400

    async def work() -> None:
        async with client() as http:
            told = (await http.post(PATH, json={"text": text})).json()
            assert len(told["sentences"]) >= 400
            assert told["text"].count("\n\n") == 399

    run(work())
    assert len(threads) > 8 and not any(threads)
