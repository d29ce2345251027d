"""Takes that are spoken: stopped, failed, refused, again, one sentence anew, text while typed."""

import asyncio
import base64
import errno
import io
import os
import wave
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.pages import Body, Scripted, plan, setup_in, spoken, sse, stream
from ui.speaking.shelf import Shelf
from ui.speaking.speaker import STOPPED, LiveText, Speaker
from ui.speaking.take import Take
from ui.wire import Refused, ServerAway

TEXTS = ("One.", "Two.", "Three.")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def speaker_on(server: Scripted, folder: Path) -> Speaker:
    return Speaker(server.client(), Shelf(setup_in(folder)))


async def state(take: Take, wanted: str) -> None:
    while take.record.state != wanted:
        await take.changed(take.version)


def waiting(*pieces: bytes) -> Body:
    return Body(pieces, waits=asyncio.Event())


def test_a_take_is_spoken(tmp_path: Path) -> None:
    async def work() -> None:
        server = Scripted().on("POST", "/tts", stream(*spoken(*TEXTS)))
        speaker = speaker_on(server, tmp_path)
        over: list[int] = []
        take = speaker.begin("me", {"text": "One. Two. Three.", "seed": 5}, b"RIFF")
        speaker.when_over(take, lambda: over.append(1))
        await speaker.wait(take)
        assert take.record.state == "done" and take.audio_s == 1.5
        assert [each.text for each in take.record.sentences] == list(TEXTS)
        assert server.bodies()[0]["text"] == "One. Two. Three."
        assert "speaker_file" in server.bodies()[0]
        await speaker.wait(take)  # of one that is over: at once
        await asyncio.sleep(0)
        assert len(over) == 1

    run(work())


def test_stop_lets_go_of_the_connection_at_once_and_keeps_the_sound(tmp_path: Path) -> None:
    async def work() -> None:
        body = waiting(*spoken(*TEXTS)[:4])
        server = Scripted().on("POST", "/tts", httpx.Response(200, stream=body))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        await body.is_waiting.wait()
        assert not body.was_closed.is_set()
        await speaker.stop(take)
        assert body.was_closed.is_set()
        assert (take.record.state, take.record.detail) == ("stopped", STOPPED)
        assert take.audio_s == 0.5
        await speaker.stop(take)  # again: nothing happens
        assert Take.load(take.folder).record.state == "stopped"

    run(work())


def test_a_stop_that_comes_with_the_last_word_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        body = waiting(*spoken(*TEXTS))  # all is said, and the connection not closed yet
        server = Scripted().on("POST", "/tts", httpx.Response(200, stream=body))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        await body.is_waiting.wait()
        assert take.record.state == "done"
        await speaker.stop(take)
        assert (take.record.state, take.record.detail) == ("done", "")
        assert Take.load(take.folder).record.state == "done"

    run(work())


def test_stop_before_the_first_byte(tmp_path: Path) -> None:
    async def work() -> None:
        body = waiting()
        server = Scripted().on("POST", "/tts", httpx.Response(200, stream=body))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        await body.is_waiting.wait()
        await speaker.stop(take)
        assert body.was_closed.is_set() and take.record.state == "stopped"
        at_once = speaker.begin("me", {"text": "One."})
        await speaker.stop(at_once)
        assert at_once.record.state == "stopped"

    run(work())


def test_closing_gives_everything_up(tmp_path: Path) -> None:
    async def work() -> None:
        bodies = [waiting(sse("plan", **plan(*TEXTS))) for _ in range(3)]
        answers = [httpx.Response(200, stream=body) for body in bodies]
        server = Scripted().on("POST", "/tts", *answers)
        speaker = speaker_on(server, tmp_path)
        takes = [speaker.begin("me", {"text": "One."}) for _ in bodies]
        for body in bodies:
            await body.is_waiting.wait()
        await speaker.close()
        assert all(body.was_closed.is_set() for body in bodies)
        assert {take.record.state for take in takes} == {"stopped"}

    run(work())


def test_a_server_that_breaks_off_fails_the_take_and_keeps_its_sound(tmp_path: Path) -> None:
    async def work() -> None:
        server = Scripted().on("POST", "/tts", stream(*spoken(*TEXTS)[:4]))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        await speaker.wait(take)
        assert take.record.state == "failed" and "in the middle" in take.record.detail
        assert take.record.retry_after_s is None
        assert take.playable_bytes == take.audio_bytes > 0

    run(work())


@pytest.mark.parametrize(
    "event",
    [
        sse("sentence.end", index=9, start_s=0, end_s=1),
        sse("sentence.end", index=0),
        sse("sentence.start"),
        sse("plan", script=[{"no": "text"}]),
        sse("plan", sample_rate="fast"),
        sse("plan", script=7),
    ],
)
def test_a_server_that_says_what_nobody_knows_fails_the_take(tmp_path: Path, event: bytes) -> None:
    async def work() -> None:
        server = Scripted().on("POST", "/tts", stream(sse("plan", **plan(*TEXTS)), event))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        await speaker.wait(take)
        assert take.record.state == "failed" and "version" in take.record.detail

    run(work())


def test_a_refusal_says_why_and_when_to_come_again(tmp_path: Path) -> None:
    async def work() -> None:
        full = httpx.Response(503, json={"detail": "Full."}, headers={"Retry-After": "7"})
        told = sse("error", status=504, detail="Too late.", retry_after_s=2)
        late = stream(sse("plan", **plan(*TEXTS)), told)
        server = Scripted().on("POST", "/tts", full, late)
        speaker = speaker_on(server, tmp_path)
        for detail, retry_after_s in (("Full.", 7.0), ("Too late.", 2)):
            take = speaker.begin("me", {"text": "One."})
            await speaker.wait(take)
            assert (take.record.state, take.record.detail) == ("failed", detail)
            assert take.record.retry_after_s == retry_after_s

    run(work())


def test_again_speaks_the_same_anew(tmp_path: Path) -> None:
    async def work() -> None:
        full = httpx.Response(503, json={"detail": "Full."})
        server = Scripted().on("POST", "/tts", full, stream(*spoken(*TEXTS)))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One.", "seed": 3}, b"RIFF")
        await speaker.wait(take)
        speaker.again(take)
        assert take.view()["state"] == "waiting"
        speaker.again(take)  # a second click changes nothing
        await speaker.wait(take)
        assert take.record.state == "done" and take.record.detail == ""
        first, second = server.bodies()
        assert first == second

    run(work())


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    async def work() -> None:
        server = Scripted().on("POST", "/tts", stream(*spoken(*TEXTS)))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        take.pcm.unlink()
        take.pcm.mkdir()
        await speaker.wait(take)
        assert take.record.state == "failed" and "kept on disk" in take.record.detail

    run(work())


def test_what_became_of_a_take_is_told_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(take: Take) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work() -> None:
        server = Scripted().on("POST", "/tts", *(stream(*spoken(*TEXTS)) for _ in range(2)))
        speaker = speaker_on(server, tmp_path)
        take = speaker.begin("me", {"text": "One."})
        monkeypatch.setattr(Take, "save", refuse)
        await state(take, "failed")
        assert take.record.detail == "The speech cannot be kept on disk: No space left on device."
        await speaker.wait(take)
        monkeypatch.undo()
        speaker.again(take)
        await speaker.wait(take)
        assert take.record.state == "done"

    run(work())


# -- one sentence anew ----------------------------------------------------------------------------


async def finished(server: Scripted, folder: Path, fields: dict[str, Any]) -> tuple[Speaker, Take]:
    speaker = speaker_on(server, folder)
    take = speaker.begin("me", fields)
    await speaker.wait(take)
    assert take.record.state == "done"
    return speaker, take


def test_redo_says_one_sentence_as_it_was_read_with_another_seed(tmp_path: Path) -> None:
    async def work() -> None:
        anew = spoken("Two.", seconds=0.75)
        anew[0] = sse("plan", **plan("Two.", seed=77))
        anew[-1] = sse("done", rtf=0.9, seed=77)
        server = Scripted().on("POST", "/tts", stream(*spoken(*TEXTS)), stream(*anew))
        fields = {"text": "One. Two. Three.", "seed": 5, "temperature": 0.4, "normalize": True}
        speaker, take = await finished(server, tmp_path, fields)
        before = take.pcm.read_bytes()
        await speaker.redo(take, 1)
        asked = server.bodies()[1]
        assert asked["text"] == "Two." and "seed" not in asked
        assert (asked["normalize"], asked["long_text"]) == (False, "split")
        assert (asked["temperature"], asked["sample_rate"]) == (0.4, 8_000)
        assert take.audio_s == 1.75
        assert take.pcm.read_bytes()[:8000] == before[:8000]
        assert take.pcm.read_bytes()[-8000:] == before[-8000:]
        sentence = take.record.sentences[1]
        assert (sentence.seed, sentence.rtf) == (77, 0.9)

    run(work())


def test_redo_keeps_to_the_voice_of_the_line(tmp_path: Path) -> None:
    async def work() -> None:
        lines = [{"text": "One.", "voice": "anna"}, {"text": "Two.", "voice": ""}]
        said = spoken("One.", "Two.")
        script = [{"text": "One.", "voice": "anna"}, {"text": "Two.", "voice": ""}]
        said[0] = sse("plan", **{**plan(), "script": script})
        answers = [stream(*said), *(stream(*spoken("x")) for _ in lines)]
        server = Scripted().on("POST", "/tts", *answers)
        speaker, take = await finished(server, tmp_path, {"dialogue": lines})
        await speaker.redo(take, 0)
        await speaker.redo(take, 1)
        _, first, second = server.bodies()
        assert first["voice"] == "anna" and "voice" not in second
        assert "dialogue" not in first

    run(work())


@pytest.mark.parametrize("has_default_voice", [False, True])
def test_redo_keeps_to_a_voice_that_chance_chose(tmp_path: Path, has_default_voice: bool) -> None:
    async def work() -> None:
        said = spoken(*TEXTS, seconds=2.0)
        said[0] = sse("plan", **plan(*TEXTS), has_default_voice=has_default_voice)
        server = Scripted().on("POST", "/tts", stream(*said), stream(*spoken("Two.")))
        speaker, take = await finished(server, tmp_path, {"text": "One. Two. Three."})
        before = take.pcm.read_bytes()
        await speaker.redo(take, 1)
        asked = server.bodies()[1]
        assert ("speaker_file" in asked) is not has_default_voice
        if not has_default_voice:
            with wave.open(io.BytesIO(base64.b64decode(asked["speaker_file"]))) as file:
                assert file.readframes(file.getnframes()) == before[: 2 * 2 * 8_000]
            assert asked["prompt_text"] == TEXTS[0]

    run(work())


def test_redo_keeps_to_the_one_voice_of_a_text(tmp_path: Path) -> None:
    async def work() -> None:
        answers = [stream(*spoken(*TEXTS)), stream(*spoken("Two."))]
        server = Scripted().on("POST", "/tts", *answers)
        fields = {"text": "One. Two. Three.", "voice": "anna"}
        speaker, take = await finished(server, tmp_path, fields)
        await speaker.redo(take, 1)
        assert server.bodies()[1]["voice"] == "anna"

    run(work())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(503, json={"detail": "Full."}), Refused),
        (stream(sse("plan", **plan("Two.")), sse("error", status=500, detail="x")), Refused),
        (stream(*spoken("Two.")[:3]), ServerAway),
        (stream(sse("plan", **plan("Two.")), sse("done")), ServerAway),
    ],
    ids=["refused", "failed", "broke off", "no sound"],
)
def test_a_redo_that_fails_leaves_the_take_as_it_was(
    tmp_path: Path, answer: httpx.Response, error: type[Exception]
) -> None:
    async def work() -> None:
        server = Scripted().on("POST", "/tts", stream(*spoken(*TEXTS)), answer)
        speaker, take = await finished(server, tmp_path, {"text": "One. Two. Three."})
        before, version = take.pcm.read_bytes(), take.version
        view = take.view()
        with pytest.raises(error):
            await speaker.redo(take, 1)
        assert take.pcm.read_bytes() == before
        assert (take.view(), take.version) == (view, version)

    run(work())


# -- text while it is typed -----------------------------------------------------------------------


def written(*texts: str, finish: str | None) -> list[str]:
    """What goes out when the text box holds `texts`, one after another."""

    async def work() -> list[str]:
        live = LiveText()
        for text in texts:
            live.write(text)
        if finish is not None:
            live.finish(finish)
        return [piece async for piece in live.pieces()]

    return asyncio.run(asyncio.wait_for(work(), 5))


def test_whole_words_go_out_once() -> None:
    assert written("He", "Hello", "Hello wor", "Hello world ", finish="Hello world again") == [
        "Hello ",
        "world ",
        "again",
    ]


def test_a_pasted_text_goes_out_at_once() -> None:
    assert written("One two.\nThree", finish="One two.\nThree") == ["One two.\n", "Three"]


def test_a_change_of_what_was_said_is_not_said_again() -> None:
    pieces = written(
        "Hello world ", "Hallo world ", "Hallo world and ", finish="Hallo world and on"
    )
    assert "".join(pieces) == "Hello world and on"


def test_deleted_text_is_not_said_again_when_more_is_written() -> None:
    pieces = written("one two three ", "one ", "one four ", finish="one four five")
    assert "".join(pieces) == "one two three four five"


def test_a_text_that_is_emptied_begins_anew() -> None:
    assert "".join(written("one two ", "", "three ", finish="three ")) == "one two three "


def test_nothing_goes_out_after_the_end() -> None:
    async def work() -> None:
        live = LiveText()
        live.finish("one")
        live.write("one two ")
        live.finish("one two three")
        assert [piece async for piece in live.pieces()] == ["one"]

    run(work())


def test_an_empty_text_ends_without_a_word() -> None:
    assert written(finish="") == []
