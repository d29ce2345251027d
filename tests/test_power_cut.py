"""Power fails while a file is written: the next start reads what was there before, or what was
written, and goes on; each file that Shoal writes."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core import ReferenceCodes
from backend.hardware.measurements import Measurements
from backend.learning.learned import read_learned, write_learned
from backend.model.config import transformer
from backend.monitoring.csv_log import CsvLog
from backend.voices.cache import ReferenceCache
from backend.voices.files import LocalFiles
from backend.voices.store import VoiceStore
from backend.voices.voice import VOICE_SUFFIX
from backend.worker.trials import Trials
from tests.monitored import logged
from tests.pages import plan, setup_in, tone
from tests.power_cut import cuts, restore
from tests.test_hardware_measurements import FIGURES, MACHINE, ROW
from tests.test_learning_learned import KEY, learned
from tests.test_model_packed_file import assert_alike, load
from tests.test_monitoring_csv_log import ROW as REQUEST
from tests.test_ui_take import TEXTS, feed, new, say, spoken
from tests.test_voices_store import CODES, store_at
from tests.tiny import tiny_checkpoint
from ui.setup import browser_secret
from ui.speaking.shelf import Shelf
from ui.speaking.take import Take


def test_a_write_is_cut_at_every_call_and_within_each_file(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "new.tmp").write_bytes(b"new")
        (tmp_path / "new.tmp").replace(tmp_path / "kept")
        with (tmp_path / "log").open("ab") as log:
            log.write(b"12345678")

    (tmp_path / "kept").write_bytes(b"old")
    states = cuts(tmp_path, work)
    assert states[0] == {"kept": b"old"}
    assert {"kept": b"old", "new.tmp": b"n"} in states
    assert {"kept": b"old", "new.tmp": b"new"} in states
    assert {"kept": b"new", "log": b"1234"} in states
    assert {"kept": b"new", "log": b"12345678"} in states
    assert {state["kept"] for state in states} == {b"old", b"new"}


def after(
    folder: Path, work: Callable[[], object], check: Callable[[Path], object], least: int = 5
) -> None:
    """Whatever `folder` holds when power fails while `work` runs, `check` finds it in order."""
    states = cuts(folder, work)
    assert len(states) >= least, "nothing was cut"
    for state in states:
        check(restore(state, folder))


def test_voices(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    store_at(folder).create("Anna", CODES, "before")

    def work() -> None:
        store = store_at(folder)
        store.update("Anna", transcript="after")
        store.create("Ben", CODES, "Ben's")

    def check(folder: Path) -> None:
        store = store_at(folder)
        names = [voice.name for voice in store.list()]
        assert names in (["Anna"], ["Anna", "Ben"])
        assert store.damaged() == ()
        assert store.get("Anna").transcript in ("before", "after")
        for name in names:
            assert store.prompt(name, CODES.codec_id).codes == CODES
        store.create("Carla", CODES, "next")
        assert not list(folder.glob("*.tmp"))

    after(folder, work, check)


def test_a_voice_that_is_deleted(tmp_path: Path) -> None:
    store_at(tmp_path).create("Anna", CODES, "before")

    def check(folder: Path) -> None:
        store = store_at(folder)
        assert [voice.name for voice in store.list()] in (["Anna"], [])

    after(tmp_path, lambda: store_at(tmp_path).delete("Anna"), check, least=2)


def test_voices_that_servers_share(tmp_path: Path) -> None:
    folder = tmp_path / "voices"

    def store() -> VoiceStore:
        return VoiceStore(LocalFiles(folder, VOICE_SUFFIX, "SHOAL_SHARED_DIR"), 10, 1 << 20)

    store().create("Anna", CODES, "before")

    def work() -> None:
        changing = store()
        changing.update("Anna", transcript="after")
        changing.create("Ben", CODES, "Ben's")
        changing.update("Ben", name="Beth")

    def check(folder: Path) -> None:
        found = store()
        names = [voice.name for voice in found.list()]
        assert names in (["Anna"], ["Anna", "Ben"], ["Anna", "Beth"])
        assert found.damaged() == ()
        for name in names:
            assert found.prompt(name, CODES.codec_id).codes == CODES
        found.create("Carla", CODES, "next")

    after(folder, work, check)


def test_encoded_recordings(tmp_path: Path) -> None:
    codes = ReferenceCodes(bytes(range(200)), 4, "codec", 2.5)
    others = replace(codes, codes=bytes(200))
    first, second = (ReferenceCache.key(audio, "codec") for audio in (b"1", b"2"))

    def cache() -> ReferenceCache:
        return ReferenceCache(tmp_path, 1 << 20, 1 << 20)

    cache().put(first, codes)

    def check(_: Path) -> None:
        found = cache()
        assert found.get(first) == codes
        assert found.get(second) in (None, others)
        found.put(second, others)
        assert cache().get(second) == others

    after(tmp_path, lambda: cache().put(second, others), check)


def test_measurements(tmp_path: Path) -> None:
    voice, kept = tiny_checkpoint(tmp_path / "voice"), Measurements(tmp_path / "data")
    kept.keep(MACHINE, voice, "voice", (ROW,))
    again = replace(ROW, figures=replace(FIGURES, rtf=0.4))

    def check(_: Path) -> None:
        with logged("WARNING") as lines:
            assert kept.find(MACHINE, voice) in ((ROW,), (again,))
            kept.keep(MACHINE, voice, "voice", (again,))
        assert kept.find(MACHINE, voice) == (again,) and not lines

    after(kept.data_dir, lambda: kept.keep(MACHINE, voice, "voice", (again,)), check)


def test_what_was_learned(tmp_path: Path) -> None:
    file, before, later = tmp_path / "learned.json", learned(), learned(at="later")
    write_learned(file, before)

    def check(_: Path) -> None:
        assert read_learned(file, KEY) in (before, later)
        write_learned(file, later)
        assert read_learned(file, KEY) == later

    after(tmp_path, lambda: write_learned(file, later), check, least=4)


def test_what_was_tried_of_kernels(tmp_path: Path) -> None:
    Trials(tmp_path).note("one", 1.0)

    def check(folder: Path) -> None:
        trials = Trials(folder)
        assert (trials.find("one"), trials.find("two")) in ((1.0, None), (1.0, 2.0))
        trials.note("two", 2.0)
        assert trials.find("two") == 2.0

    after(tmp_path, lambda: Trials(tmp_path).note("two", 2.0), check)


def test_the_log_of_requests(tmp_path: Path) -> None:
    def write(*ids: str) -> None:
        log = CsvLog(tmp_path, "t", 1 << 20)
        log.write_hardware_specs({"first": ids[0]})
        for request_id in ids:
            log.append(replace(REQUEST, request_id=request_id))
        log.close()

    write("a", "b")

    def found() -> list[str]:
        """Of each file the ids of its whole rows."""
        texts = [file.read_bytes().decode() for file in sorted(tmp_path.glob("*.csv"))]
        whole = [text[: text.rfind("\r\n") + 2].splitlines() for text in texts]
        return [row["request_id"] for lines in whole for row in csv.DictReader(lines, strict=True)]

    def check(_: Path) -> None:
        assert found() in (["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"])
        write("e")
        assert found()[:2] == ["a", "b"] and found()[-1] == "e"
        (specs,) = tmp_path.glob("hardware_specs_*.json")
        assert specs.read_text("utf-8") == '{\n  "first": "e"\n}\n'

    after(tmp_path, lambda: write("c", "d"), check)


def test_packed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "SMALL_PARAMETERS", 0)
    voice = tiny_checkpoint(tmp_path / "voice", fast_dim=32)
    kept = tmp_path / "kept"
    kept.mkdir()
    first = load(voice, tmp_path / "other", samples=2)

    def check(_: Path) -> None:
        assert_alike(first, load(voice, kept, samples=2))

    after(kept, lambda: load(voice, kept, samples=2), check)


def test_the_secret_of_a_pages_browsers(tmp_path: Path) -> None:
    setup = setup_in(tmp_path)
    setup.folder.mkdir()

    def check(folder: Path) -> None:
        secret = browser_secret(setup)
        assert len(secret) >= 32
        assert browser_secret(setup) == secret

    after(setup.folder, lambda: browser_secret(setup), check)


# -- takes ----------------------------------------------------------------------------------------


def in_order(take: Take) -> None:
    """It is over, and each sentence that it says was spoken sounds."""
    assert take.is_over and take.audio_bytes <= take.pcm.stat().st_size
    sound = take.pcm.read_bytes()
    for sentence in take.record.sentences:
        if sentence.start_s is not None and sentence.end_s is not None:
            said = sound[take.offset(sentence.start_s) : take.offset(sentence.end_s)]
            assert said == tone(sentence.end_s - sentence.start_s, 8000 if not sentence.seed else 9)
    if take.record.state == "done":
        assert all(each.end_s is not None for each in take.record.sentences)


def loaded(folder: Path) -> Take:
    (take,) = (Take.load(each) for each in folder.iterdir())
    in_order(take)
    return take


def test_a_take_while_it_is_spoken(tmp_path: Path) -> None:
    folder = setup_in(tmp_path).folder / "takes"
    folder.mkdir(parents=True)

    def check(_: Path) -> None:
        with logged("WARNING") as lines:
            takes = Shelf(setup_in(tmp_path)).of("me")
        assert len(takes) + len(lines) <= 1  # of one that had only begun nothing is lost
        for take in takes:
            in_order(take)

    after(folder, lambda: spoken(folder, 0.5, 0.25), check, least=20)


def test_a_take_that_is_spoken_again(tmp_path: Path) -> None:
    take = spoken(tmp_path, 0.5, 0.25)
    sound = take.pcm.read_bytes()

    def work() -> None:
        take.begin_again()
        feed(take, "plan", **plan(*TEXTS[:1]))
        say(take, 0, 0.125)
        feed(take, "done")

    def check(folder: Path) -> None:
        found = loaded(folder)
        assert sound.startswith(found.pcm.read_bytes())  # all, or as much as was said anew
        assert [file.name for file in found.folder.glob("*.pcm")] == [found.pcm.name]

    after(tmp_path, work, check, least=10)


@pytest.mark.parametrize("seconds", [0.125, 0.75])
def test_a_sentence_that_is_said_again(tmp_path: Path, seconds: float) -> None:
    take = spoken(tmp_path, 0.5, 0.25, 0.5)

    def check(folder: Path) -> None:
        found = loaded(folder)
        assert found.record.state == "done"
        assert found.audio_s in (1.25, 1.0 + seconds)

    after(tmp_path, lambda: take.replace(1, tone(seconds, 9), {"rtf": 1}, 7), check)


def test_sound_that_never_reached_the_disk(tmp_path: Path) -> None:
    """The record did: a file system need not keep to the order in which files were written."""
    take = spoken(tmp_path, 0.5, 0.25)
    with take.pcm.open("rb+") as file:
        file.truncate(take.offset(0.6))
    found = Take.load(take.folder)
    in_order(found)
    assert (found.record.state, found.audio_s) == ("stopped", 0.6)
    assert "lost" in found.record.detail
    assert [each.state for each in found.record.sentences] == ["done", "waiting"]
    assert new(tmp_path).record.state == "waiting"
