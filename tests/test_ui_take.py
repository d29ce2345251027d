"""A take from the wish to the finished sound: what it shows, what may be heard, what is on disk."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pages import RATE_HZ, plan, tone
from ui.speaking.record import RECORD, title_of
from ui.speaking.take import Take
from ui.wire import Event

TEXTS = ("First.", "Second one.", "Third.")
BYTES_PER_S = 2 * RATE_HZ


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def new(folder: Path, clock: Clock | None = None, **fields: Any) -> Take:
    take = Take.create(folder, "me", {"text": " ".join(TEXTS), **fields})
    return Take(take.folder, take.record, clock or Clock())


def feed(take: Take, kind: str, audio: bytes = b"", **fields: Any) -> None:
    take.take_in(Event(kind, fields, audio))


def say(take: Take, index: int, seconds: float) -> None:
    """One sentence from its start to its end."""
    start_s = take.audio_s
    feed(take, "sentence.start", index=index, text=TEXTS[index])
    feed(take, "audio", tone(seconds), index=index)
    feed(take, "sentence.end", index=index, start_s=start_s, end_s=take.audio_s, rtf=0.5)


def spoken(folder: Path, *seconds: float) -> Take:
    """A finished one."""
    take = new(folder)
    feed(take, "plan", **plan(*TEXTS[: len(seconds)]))
    for index, each in enumerate(seconds):
        say(take, index, each)
    feed(take, "done", rtf=0.5, seed=5)
    return take


# -- states ---------------------------------------------------------------------------------------


def test_from_waiting_to_done(tmp_path: Path) -> None:
    take = new(tmp_path)
    seen: list[tuple[Any, list[Any]]] = []

    def look() -> None:
        sentences = [each.state for each in take.record.sentences]
        seen.append((take.record.state, sentences))

    look()
    feed(take, "plan", **plan(*TEXTS[:2]))
    look()
    feed(take, "queue", wait_s=4.0)
    assert take.view()["wait_s"] == 4.0
    feed(take, "sentence.start", index=0, text=TEXTS[0])
    look()
    feed(take, "audio", tone(0.5), index=0)
    feed(take, "sentence.end", index=0, start_s=0.0, end_s=0.5, rtf=0.5)
    look()
    say(take, 1, 0.25)
    feed(take, "warning", detail="It was cut off.")
    feed(take, "done", rtf=0.4, seed=9)
    look()
    assert seen == [
        ("waiting", []),
        ("waiting", ["waiting", "waiting"]),
        ("speaking", ["speaking", "waiting"]),
        ("speaking", ["done", "waiting"]),
        ("done", ["done", "done"]),
    ]
    view = take.view()
    assert view["warnings"] == ["It was cut off."]
    assert view["figures"] == {"rtf": 0.4, "seed": 9}
    assert view["audio_s"] == 0.75 and view["rate_hz"] == RATE_HZ
    assert take.pcm.stat().st_size == take.audio_bytes == 0.75 * BYTES_PER_S


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_what_ends_early_keeps_what_was_spoken(tmp_path: Path, state: Any) -> None:
    take = new(tmp_path)
    feed(take, "plan", **plan(*TEXTS))
    say(take, 0, 0.5)
    feed(take, "sentence.start", index=1, text=TEXTS[1])
    feed(take, "audio", tone(0.1), index=1)
    take.end(state, "why", 3.0)
    assert take.is_over
    assert [each.state for each in take.record.sentences] == ["done", "waiting", "waiting"]
    view = take.view()
    assert (view["state"], view["detail"], view["retry_after_s"]) == (state, "why", 3.0)
    assert take.playable_bytes == take.audio_bytes == 0.6 * BYTES_PER_S


def test_of_live_text_sentences_come_as_they_are_begun(tmp_path: Path) -> None:
    take = new(tmp_path)
    feed(take, "plan", request_id="r", sample_rate=RATE_HZ)
    say(take, 0, 0.5)
    say(take, 1, 0.5)
    assert [each.text for each in take.record.sentences] == list(TEXTS[:2])
    assert take.view()["total"] == 2


def test_an_older_server_knows_no_sentences(tmp_path: Path) -> None:
    take = new(tmp_path)
    feed(take, "plan", request_id="r", sample_rate=RATE_HZ, sentences=None)
    feed(take, "audio", tone(0.2), index=0)
    assert take.view()["state"] == "speaking"
    feed(take, "done", request_id="r")
    assert take.view()["state"] == "done" and take.audio_s == 0.2


# -- what may be heard ----------------------------------------------------------------------------


def test_a_machine_faster_than_real_time_is_heard_at_once(tmp_path: Path) -> None:
    clock = Clock()
    take = new(tmp_path, clock)
    feed(take, "plan", **plan(*TEXTS))
    feed(take, "sentence.start", index=0, text=TEXTS[0])
    clock.now_s += 0.4
    feed(take, "audio", tone(0.49), index=0)
    assert take.playable_bytes == 0, "too little to tell how fast it is"
    feed(take, "audio", tone(0.01), index=0)
    assert take.playable_bytes == take.audio_bytes == 0.5 * BYTES_PER_S


def test_a_slow_machine_is_heard_sentence_by_sentence(tmp_path: Path) -> None:
    clock = Clock()
    take = new(tmp_path, clock)
    feed(take, "plan", **plan(*TEXTS))
    feed(take, "sentence.start", index=0, text=TEXTS[0])
    clock.now_s += 2.0
    feed(take, "audio", tone(1.0), index=0)
    assert take.playable_bytes == 0
    feed(take, "sentence.end", index=0, start_s=0.0, end_s=1.0)
    assert take.playable_bytes == BYTES_PER_S
    feed(take, "sentence.start", index=1, text=TEXTS[1])
    feed(take, "audio", tone(0.5), index=1)
    assert take.playable_bytes == BYTES_PER_S, "the second is not whole"
    take.end("stopped")
    assert take.playable_bytes == 1.5 * BYTES_PER_S


def test_the_wait_in_the_queue_is_not_slowness(tmp_path: Path) -> None:
    clock = Clock()
    take = new(tmp_path, clock)
    feed(take, "plan", **plan(*TEXTS))
    clock.now_s += 500
    feed(take, "sentence.start", index=0, text=TEXTS[0])
    clock.now_s += 0.5
    feed(take, "audio", tone(1.0), index=0)
    assert take.playable_bytes == take.audio_bytes


# -- what a page is told --------------------------------------------------------------------------


def test_a_view_since_a_version_has_what_changed_since(tmp_path: Path) -> None:
    take = new(tmp_path)
    feed(take, "plan", **plan(*TEXTS))
    whole = take.view()
    assert set(whole["sentences"]) == {"0", "1", "2"}
    feed(take, "sentence.start", index=1, text=TEXTS[1])
    later = take.view(whole["version"])
    assert set(later["sentences"]) == {"1"} and later["total"] == 3
    assert take.view(later["version"])["sentences"] == {}
    json.dumps(later)


def test_who_waits_for_a_change_is_woken(tmp_path: Path) -> None:
    async def work() -> None:
        take = new(tmp_path)
        version = take.version
        await asyncio.wait_for(take.changed(version - 1), 1)
        waiting = [asyncio.create_task(take.changed(version)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        feed(take, "plan", **plan(*TEXTS))
        await asyncio.wait_for(asyncio.gather(*waiting), 1)

    asyncio.run(work())


def test_elapsed_stands_still_once_it_is_over(tmp_path: Path) -> None:
    clock = Clock()
    take = new(tmp_path, clock)
    clock.now_s += 2.5
    assert take.view()["elapsed_s"] == 2.5
    take.end("stopped")
    clock.now_s += 100
    assert take.view()["elapsed_s"] == 2.5


def test_what_remains_is_expected_and_then_measured(tmp_path: Path) -> None:
    clock = Clock()
    take = new(tmp_path, clock)
    assert take.view()["remaining_s"] is None, "nobody has told anything"
    feed(take, "plan", **plan("aaaa", "bbbbbbbb", expected_s=12.0, wait_s=3.0))
    assert take.view()["remaining_s"] == 15.0
    feed(take, "queue", wait_s=0.0)
    feed(take, "sentence.start", index=0, text="aaaa")
    clock.now_s += 5.0
    assert take.view()["remaining_s"] == 7.0
    feed(take, "sentence.end", index=0, start_s=0.0, end_s=0.0)
    assert take.view()["remaining_s"] == 10.0, "4 characters took 5 s, 8 are left"
    take.end("done")
    assert take.view()["remaining_s"] is None


# -- one sentence again ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.25, 1.0, 2.0])
def test_a_sentence_is_replaced_and_what_follows_moves(tmp_path: Path, seconds: float) -> None:
    take = spoken(tmp_path, 0.5, 1.0, 0.75)
    before = take.pcm.read_bytes()
    new_pcm = tone(seconds, 3000)
    version = take.version
    take.replace(1, new_pcm, {"rtf": 0.7}, 77)
    after = take.pcm.read_bytes()
    first, last = before[: BYTES_PER_S // 2], before[-int(0.75 * BYTES_PER_S) :]
    assert after == first + new_pcm + last
    assert take.audio_bytes == len(after)
    places = [(each.start_s, each.end_s) for each in take.record.sentences]
    assert places == [(0.0, 0.5), (0.5, 0.5 + seconds), (0.5 + seconds, 1.25 + seconds)]
    assert (take.record.sentences[1].rtf, take.record.sentences[1].seed) == (0.7, 77)
    assert set(take.view(version)["sentences"]) == {"1", "2"}
    assert Take.load(take.folder).record == take.record
    assert [file.name for file in take.folder.glob("*.new")] == []


# -- on disk --------------------------------------------------------------------------------------


def test_a_finished_take_is_loaded_as_it_was(tmp_path: Path) -> None:
    take = spoken(tmp_path, 0.5, 0.5)
    found = Take.load(take.folder)
    assert found.record == take.record and found.audio_bytes == take.audio_bytes
    assert set(found.view()["sentences"]) == {"0", "1"}


def test_a_take_whose_process_was_killed_is_stopped_and_keeps_its_sound(tmp_path: Path) -> None:
    take = new(tmp_path)
    feed(take, "plan", **plan(*TEXTS))
    say(take, 0, 0.5)
    feed(take, "audio", b"\1\2\3", index=1)
    found = Take.load(take.folder)
    assert found.record.state == "stopped"
    assert "closed while" in found.record.detail
    assert found.audio_bytes == BYTES_PER_S // 2 + 2, "half a sample is none"
    assert Take.load(take.folder).record.state == "stopped"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', '{"id": "another"}'])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    take = spoken(tmp_path, 0.5)
    (take.folder / RECORD).write_text(text)
    with pytest.raises(msgspec.DecodeError):
        Take.load(take.folder)


def test_a_record_in_another_folder_is_refused(tmp_path: Path) -> None:
    take = spoken(tmp_path, 0.5)
    other = take.folder.rename(take.folder.with_name("x" * 22))
    with pytest.raises(msgspec.ValidationError, match="another take's"):
        Take.load(other)


def test_a_take_without_sound_or_record_cannot_be_read(tmp_path: Path) -> None:
    take = spoken(tmp_path, 0.5)
    take.pcm.unlink()
    with pytest.raises(OSError):
        Take.load(take.folder)
    with pytest.raises(OSError):
        Take.load(tmp_path / "nothing")


def test_a_recording_is_kept_beside_it(tmp_path: Path) -> None:
    take = Take.create(tmp_path, "me", {"text": "hello"}, b"RIFF")
    assert Take.load(take.folder).recording == b"RIFF"
    assert spoken(tmp_path, 0.5).recording is None


def test_again_forgets_what_was_made(tmp_path: Path) -> None:
    clock = Clock()
    take = new(tmp_path, clock)
    feed(take, "plan", **plan(*TEXTS))
    say(take, 0, 0.5)
    feed(take, "warning", detail="w")
    take.end("failed", "why", 2.0)
    clock.now_s += 50
    take.begin_again()
    view = take.view()
    assert (view["state"], view["detail"], view["retry_after_s"]) == ("waiting", "", None)
    assert (view["total"], view["audio_s"], view["elapsed_s"], view["warnings"]) == (0, 0, 0, [])
    assert take.pcm.read_bytes() == b""
    feed(take, "plan", **plan(*TEXTS[:1]))
    say(take, 0, 0.5)
    feed(take, "done")
    assert take.audio_s == 0.5


def test_titles_are_the_first_words() -> None:
    assert title_of({"text": "  Hello\n\n there  "}) == "Hello there"
    assert title_of({"dialogue": [{"text": "Good day."}, {"text": "x"}]}) == "Good day."
    assert title_of({"text": ""}) == title_of({}) == ""
    long = title_of({"text": "word " * 50})
    assert len(long) <= 60 and long.startswith("word word ") and long.endswith("…")
