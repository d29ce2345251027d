"""A text's sentences, made as they are needed and in turns with other clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from backend.core import Line, Sentence
from backend.errors import BlankText, TextTooLong
from backend.serving.fair_thread import FairThread
from backend.serving.script import TURN_PAUSE_S, Script, Spelling, check_text, live, written
from backend.text.sentences import PARAGRAPH_PAUSE_S

SPELLING = Spelling("en", True, 200)
LONG = "It cost $5 that time.\n\n" * 4000


def steps_of(script: tuple[Line, ...], spelling: Spelling = SPELLING) -> list[list[Sentence]]:
    return list(written(script, spelling))


def test_only_what_is_needed_is_read() -> None:
    read: list[int] = []

    def counted() -> Iterator[list[Sentence]]:
        for step in written((Line(LONG, ""),), SPELLING):
            read.append(len(step))
            yield step

    async def work() -> None:
        thread = FairThread("test")
        script = Script(counted(), len(LONG), thread, "a")
        await script.begin()
        assert len(read) == 1
        sentences = script.sentences()
        assert (await anext(sentences)).text == "It cost five dollars that time."
        assert len(read) == 1
        rest = [each async for each in sentences]
        assert len(rest) == 3999
        assert len(read) > 30
        thread.close()

    asyncio.run(work())


def test_another_client_does_not_wait_for_long_texts() -> None:
    """It is read after one portion of each, not after all of them."""
    order: list[str] = []

    async def read(thread: FairThread, client: str, text: str) -> None:
        await Script(written((Line(text, ""),), SPELLING), len(text), thread, client).whole()
        order.append(client)

    async def work() -> None:
        thread = FairThread("test")
        longs = [asyncio.create_task(read(thread, "many", LONG[:20_000])) for _ in range(8)]
        await asyncio.sleep(0)
        await read(thread, "one", "Hello.")
        assert order == ["one"]
        await asyncio.gather(*longs)
        thread.close()

    asyncio.run(work())


@pytest.mark.parametrize("text", ["", "```\n```", "\n\n***\n\n" * 2000])
def test_text_that_comes_to_nothing_is_told_before_its_turn(text: str) -> None:
    async def work() -> None:
        thread = FairThread("test")
        with pytest.raises(BlankText):
            await Script(written((Line(text, ""),), SPELLING), len(text), thread, "a").begin()
        thread.close()

    asyncio.run(work())


@pytest.mark.parametrize("text", [" \n\t ", "\x00\x01", "\u2029" * 500])
def test_blank_text_is_told_without_reading_it(text: str) -> None:
    with pytest.raises(BlankText):
        check_text(text, 1000)
    with pytest.raises(TextTooLong):
        check_text("a" + text, len(text))


def test_lines_keep_their_voices_and_speakers_pause_between_them() -> None:
    script = (Line("One. Two, three and four.", "ann"), Line("", "ben"), Line("Five.", "cid"))
    sentences = [each for step in steps_of(script, Spelling("en", True, 200, 2.0)) for each in step]
    assert [(each.voice, each.text) for each in sentences] == [
        ("ann", "One. Two, three and four."),
        ("cid", "Five."),
    ]
    assert [each.pause_s for each in sentences] == [2 * TURN_PAUSE_S, 2 * PARAGRAPH_PAUSE_S]


def test_a_live_text_in_one_piece_is_read_in_turns_too() -> None:
    runs = 0

    class Counting(FairThread):
        async def run(self, client, work):  # type: ignore[no-untyped-def]
            nonlocal runs
            runs += 1
            return await super().run(client, work)

    async def texts() -> AsyncIterator[str]:
        yield LONG[:40_000]

    async def work() -> None:
        thread = Counting("test")
        sentences = live(texts(), "", SPELLING, 100_000, thread, "a")
        assert len([each async for each in sentences]) > 1000
        assert runs > 20
        thread.close()

    asyncio.run(work())
