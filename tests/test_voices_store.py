"""Saved voices: whole or not there, whatever kills the process or damages the disk."""

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadField, ShoalError, StorageFull, UnknownVoice, VoiceConflict
from backend.voices import sealed
from backend.voices.store import Voice, VoiceStore
from backend.voices.voice import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_TRANSCRIPT_CHARACTERS,
    Saved,
)
from tests.monitored import logged

ROOT = Path(__file__).parent.parent
CODES = ReferenceCodes(bytes(range(120)), 4, "codec a", 1.25)


def store_at(folder: Path, max_voices: int = 100, max_bytes: int = 1 << 20) -> VoiceStore:
    return VoiceStore(folder, max_voices, max_bytes)


def file_of(folder: Path, voice: Voice) -> Path:
    return folder / f"{voice.id}.voice"


def names_of(store: VoiceStore) -> list[str]:
    return [voice.name for voice in store.list()]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def child(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = (sys.executable, "-c", script, *map(str, arguments))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "voices"
    store = store_at(folder)
    assert store.list() == ()
    assert not folder.exists()  # nothing before the first voice
    made = store.create("Zoe\u0308", CODES, "Good evening.", "A calm voice.")
    assert (made.name, made.transcript, made.description) == (
        *("Zoë", "Good evening.", "A calm voice."),
    )
    assert (made.codec_id, made.num_codebooks, made.frames, made.audio_s) == (
        "codec a",
        4,
        15,
        1.25,
    )
    assert made.created_at.startswith("20") and made.created_at.endswith("+00:00")
    for there in (store, store_at(folder)):
        assert there.list() == (made,)
        assert there.get("zoë") == there.get("ZOE\u0308") == there.get(made.id) == made
        assert there.prompt("zoë", "codec a") == VoicePrompt(CODES, "Good evening.")
    assert [path.name for path in folder.iterdir()] == [f"{made.id}.voice"]


def test_a_list_begins_with_the_oldest(tmp_path: Path) -> None:
    names = [f"voice {number}" for number in random.Random(1).sample(range(100), 12)]
    for name in names:
        store_at(tmp_path).create(name, CODES)
    assert names_of(store_at(tmp_path)) == names


def test_a_change_keeps_the_id_and_the_rest(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    made = store.create("Ann", CODES, "Hello.", "Calm.")
    assert store.update("ann", name="ANN") == replace(made, name="ANN")  # its own name is free
    assert store.update(made.id, name="Beth", transcript="") == replace(
        made, name="Beth", transcript=""
    )
    changed = store.update("Beth", description="Loud.")
    assert changed == replace(made, name="Beth", transcript="", description="Loud.")
    assert store_at(tmp_path).list() == (changed,)
    assert store_at(tmp_path).prompt("Beth", "codec a") == VoicePrompt(CODES)
    with pytest.raises(UnknownVoice):
        store.get("Ann")


def test_a_deleted_voice_is_gone_and_its_name_free(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    made = store.create("Ann", CODES)
    store.delete("ANN")
    assert list(tmp_path.iterdir()) == []
    for call in (store.get, store.delete, store.update):
        with pytest.raises(UnknownVoice):
            call(made.id)
    assert store.create("Ann", CODES).id != made.id


def test_a_taken_name_is_a_conflict_in_any_case(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    ann = store.create("Ann", CODES)
    beth = store.create("Beth", CODES)
    for attempt in (
        lambda: store.check_name("ANN"),
        lambda: store.create("aNN", CODES),
        lambda: store.update("Beth", name="ann"),
    ):
        with pytest.raises(VoiceConflict, match="called Ann already"):
            attempt()
    assert store_at(tmp_path).list() == (ann, beth)
    assert store.check_name("Anne") == "Anne"


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a/b", "a\0", "x" * 65, "😀", "f" * 32])
def test_a_bad_name_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    store = store_at(tmp_path / "voices")
    with pytest.raises(BadField):
        store.check_name(name)
    with pytest.raises(BadField):
        store.create(name, CODES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", ".", "../x", "..\\x", "a\0b", "\ud800", "x" * 10_000, "x" * 1_000_000, "%2e%2e/"]
)
def test_any_text_may_be_asked_for(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "x.voice"
    outside.write_bytes(b"somebody's")
    store = store_at(tmp_path / "voices")
    store.create("Ann", CODES)
    for call in (store.get, store.delete, store.update, lambda n: store.prompt(n, "codec a")):
        with pytest.raises(UnknownVoice) as refused:
            call(name)
        assert len(str(refused.value)) < 300
        str(refused.value).encode()
    assert outside.read_bytes() == b"somebody's"


def test_an_unknown_voice_names_near_ones(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    with pytest.raises(UnknownVoice, match="none is saved yet"):
        store.get("Ana")
    for name in ("Ann", "Anna", "Reader"):
        store.create(name, CODES)
    with pytest.raises(UnknownVoice, match=r"did you mean (Ann or Anna|Anna or Ann)\?"):
        store.get("ana")
    with pytest.raises(UnknownVoice, match="GET /voices lists them"):
        store.get("qqqqqq")


@pytest.mark.parametrize("field", ["transcript", "description"])
def test_texts_are_bounded_and_whole(tmp_path: Path, field: str) -> None:
    most = {
        "transcript": MAX_TRANSCRIPT_CHARACTERS,
        "description": MAX_DESCRIPTION_CHARACTERS,
    }[field]
    store = store_at(tmp_path)
    store.create("Ann", CODES, **{field: "ж" * most})
    for text in ("a" * (most + 1), "half \ud83d"):
        with pytest.raises(BadField, match=field):
            store.create("Beth", CODES, **{field: text})
        with pytest.raises(BadField, match=field):
            store.update("Ann", **{field: text})
    assert names_of(store_at(tmp_path)) == ["Ann"]


def test_another_checkpoints_codec_is_a_conflict(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    store.create("Ann", CODES)
    with pytest.raises(VoiceConflict, match="create it again"):
        store.prompt("Ann", "codec b")


def test_the_number_of_voices_is_limited(tmp_path: Path) -> None:
    store = store_at(tmp_path, max_voices=2)
    for name in ("Ann", "Beth"):
        store.create(name, CODES)
    for attempt in (lambda: store.check_name("Cleo"), lambda: store.create("Cleo", CODES)):
        with pytest.raises(StorageFull, match="SHOAL_MAX_VOICES"):
            attempt()
    store.update("Ann", name="Anna")  # no voice more
    store.delete("Beth")
    store.create("Cleo", CODES)
    with pytest.raises(StorageFull):
        store_at(tmp_path / "none", max_voices=0).create("Ann", CODES)


def test_their_size_is_limited(tmp_path: Path) -> None:
    one = store_at(tmp_path / "one")
    size_bytes = file_of(tmp_path / "one", one.create("Ann", CODES)).stat().st_size
    folder = tmp_path / "two"
    store = store_at(folder, max_bytes=2 * size_bytes + 1)
    store.create("Ann", CODES)
    store.create("Ben", CODES)
    with pytest.raises(StorageFull, match="SHOAL_VOICES_LIMIT_MB"):
        store.create("Cyd", CODES)
    with pytest.raises(StorageFull, match="SHOAL_VOICES_LIMIT_MB"):
        store.update("Ben", transcript="longer than there is room")
    assert names_of(store_at(folder)) == ["Ann", "Ben"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2 * size_bytes + 1
    store.delete("Ann")
    store.create("Cyd", CODES)


@pytest.mark.parametrize(("module", "step"), [(Path, "mkdir"), (os, "fsync"), (Path, "replace")])
def test_a_full_disk_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    store = store_at(tmp_path)
    ann = store.create("Ann", CODES)

    with monkeypatch.context() as patch:
        patch.setattr(module, step, full)
        with pytest.raises(StorageFull, match="No space left"):
            store.create("Beth", CODES)
        with pytest.raises(StorageFull, match="No space left"):
            store.update("Ann", name="Beth")
        assert store.list() == (ann,)
    assert [path.name for path in tmp_path.iterdir()] == [f"{ann.id}.voice"]
    assert store.update("Ann", name="Beth") in store_at(tmp_path).list()


def test_a_folder_that_cannot_be_is_said_when_saving(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = store_at(tmp_path / "file" / "voices")
    with logged("WARNING") as lines:
        assert store.list() == store.list() == ()
    assert len(lines) == 1
    with pytest.raises(StorageFull, match="SHOAL_DATA_DIR"):
        store.create("Ann", CODES)


def test_damage_is_warned_of_once_and_never_served(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    good = store.create("Good", CODES)
    damaged = [store.create(f"Bad {number}", CODES, "a" * 50) for number in range(7)]
    files = [file_of(tmp_path, voice) for voice in damaged]
    whole = files[0].read_bytes()
    flipped = bytearray(whole)
    flipped[-10] ^= 1
    saved = msgspec.msgpack.decode(whole[22:])
    not_ours = [{**saved, "version": 2}, {**saved, "codes": b"short"}, {"voice": 1}]
    for file, content in zip(
        files,
        [b"", whole[:-1], bytes(flipped), whole, *map(sealed.seal, not_ours)],
        strict=True,
    ):
        file.unlink()  # a new file, as a restore from a backup makes one
        file.write_bytes(content)
    files[3].replace(tmp_path / f"{'0' * 32}.voice")  # a copy under another's name
    (tmp_path / "notes.txt").write_text("somebody's")
    (tmp_path / "short.voice").write_text("somebody's")
    (tmp_path / f"{'1' * 32}.voice").mkdir()
    for there in (store, store_at(tmp_path)):
        with logged("WARNING") as lines:
            assert there.list() == there.list() == (good,)
        assert len(lines) == 8
        with pytest.raises(UnknownVoice):
            there.prompt(damaged[1].id, "codec a")
        assert there.prompt("good", "codec a").codes == CODES
    assert store.create("Bad 1", CODES).name == "Bad 1"


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 33)  # which takes no room


def link(path: Path) -> None:
    elsewhere = path.with_suffix(".elsewhere")
    (path.parent / f"{path.stem[::-1]}.voice").rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes, links or devices in folders")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("put", [zero, pipe, huge, link, Path.mkdir])
def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path, put: Callable[[Path], None]) -> None:
    store = store_at(tmp_path)
    good = store.create("Good", CODES)
    other = store.create("Other", CODES)
    strange = other.id[::-1]
    put(tmp_path / f"{strange}.voice")
    for there in (store, store_at(tmp_path)):
        assert good in there.list()
        assert strange in there.damaged()
        for call in (there.get, lambda name, of=there: of.prompt(name, "codec a")):
            with pytest.raises(UnknownVoice, match="is damaged"):
                call(strange)
        assert there.prompt("Good", "codec a").codes == CODES


def test_a_damaged_voice_is_deleted_by_its_id(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    ann, bad = store.create("Ann", CODES), store.create("Bad", CODES)
    assert store.damaged() == ()
    file_of(tmp_path, bad).write_bytes(b"damaged")
    for there in (store_at(tmp_path), store_at(tmp_path)):
        assert there.list() == (ann,)
        assert there.damaged() == (bad.id,)
    with pytest.raises(UnknownVoice):
        there.delete("Bad")
    there.delete(bad.id)
    assert there.damaged() == store_at(tmp_path).damaged() == ()
    assert [path.name for path in tmp_path.iterdir()] == [f"{ann.id}.voice"]
    with pytest.raises(UnknownVoice):
        there.delete(bad.id)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or links in folders")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("is_pipe", [False, True])
def test_nothing_is_written_through_what_lies_in_the_way(tmp_path: Path, is_pipe: bool) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"not to be written to")
    path = tmp_path / "a.voice"
    in_the_way = tmp_path / f"a.voice.{os.getpid()}.tmp"
    if is_pipe:
        os.mkfifo(in_the_way)
    else:
        in_the_way.symlink_to(mine)
    sealed.write(path, sealed.seal(CODES))
    assert sealed.read(path, ReferenceCodes, 1_000) == CODES
    assert mine.read_bytes() == b"not to be written to"


@pytest.mark.parametrize("name", ["Ａｎｎ", "𝐀nn", "ＡＮＮ"])
def test_a_name_that_looks_like_anothers_is_taken(tmp_path: Path, name: str) -> None:
    store = store_at(tmp_path)
    store.create("Ann", CODES)
    for attempt in (lambda: store.create(name, CODES), lambda: store.check_name(name)):
        with pytest.raises(VoiceConflict, match="called Ann already"):
            attempt()


def test_a_name_of_two_scripts_that_was_saved_before_is_still_spoken_in(tmp_path: Path) -> None:
    mixed = "\u0410nna"  # its first letter is Cyrillic
    made = store_at(tmp_path).create("Anna", CODES)
    with pytest.raises(BadField, match="Latin and Cyrillic"):
        store_at(tmp_path).create(mixed, CODES)
    old = replace(made, id="0" * 32, name=mixed)
    sealed.write(file_of(tmp_path, old), sealed.seal(Saved(1, old, CODES.codes)))
    store = store_at(tmp_path)
    assert store.get(mixed) == old
    assert store.get("Anna") == made
    assert store.prompt(mixed, "codec a").codes == CODES
    assert store.update(mixed, name=mixed, transcript="Hi.").transcript == "Hi."
    with pytest.raises(BadField, match="Latin and Cyrillic"):
        store.update(mixed, name=mixed + "2")


def test_damage_while_it_serves_is_seen(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    ann = store.create("Ann", CODES)
    long_ago_s = time.time() - 3600
    os.utime(tmp_path, (long_ago_s, long_ago_s))
    assert store.get("Ann") == ann
    file = file_of(tmp_path, ann)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)  # in place: the folder does not tell
    for call in (lambda: store.prompt("Ann", "codec a"), lambda: store.update("Ann", name="Beth")):
        with pytest.raises(UnknownVoice):
            call()


def test_what_cannot_be_read_now_is_there_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = store_at(tmp_path)
    ann = known.create("Ann", CODES)
    long_ago_s = time.time() - 3600
    os.utime(tmp_path, (long_ago_s, long_ago_s))
    new = store_at(tmp_path)
    with monkeypatch.context() as patch, logged("WARNING") as lines:
        patch.setattr(sealed, "open_regular", full)
        assert new.list() == new.list() == ()
        assert known.list() == (ann,)
        for call in (lambda: known.prompt("Ann", "codec a"), lambda: known.update("Ann", "Beth")):
            with pytest.raises(StorageFull, match="cannot be read"):
                call()
    assert len(lines) == 1
    assert new.list() == known.list() == (ann,)


def test_processes_see_each_others_voices(tmp_path: Path) -> None:
    one, other = store_at(tmp_path), store_at(tmp_path)
    assert one.list() == other.list() == ()
    ann = one.create("Ann", CODES)
    assert other.list() == (ann,)
    beth = other.update("Ann", name="Beth")
    assert one.get("beth") == one.get(ann.id) == beth
    with pytest.raises(UnknownVoice):
        one.get("Ann")
    other.delete("Beth")
    assert one.list() == ()
    cleo = other.create("Cleo", CODES)
    long_ago_s = time.time() - 3600
    os.utime(tmp_path, (long_ago_s, long_ago_s))
    assert one.list() == (cleo,)
    os.utime(tmp_path, (0, 0))  # as images with reproducible times have it
    assert store_at(tmp_path).list() == (cleo,)


def test_of_threads_that_create_one_name_one_wins(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    barrier = Barrier(16)

    def create(number: int) -> Voice | str:
        barrier.wait()
        try:
            return store.create("ann" if number % 2 else "Ann", CODES, str(number))
        except ShoalError as error:
            return error.code

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(create, range(16)))
    (won,) = [result for result in results if isinstance(result, Voice)]
    assert results.count("voice_conflict") == 15
    assert store.list() == store_at(tmp_path).list() == (won,)


def test_threads_never_pass_a_limit(tmp_path: Path) -> None:
    store = store_at(tmp_path, max_voices=5)

    def work(number: int) -> None:
        for turn in range(10):
            try:
                made = store.create(f"voice {number} {turn}", CODES)
                assert store.prompt(made.name, "codec a").codes == CODES
                store.update(made.id, name=f"again {number} {turn}")
                if turn % 3:
                    store.delete(made.id)
            except StorageFull:
                pass
            assert len(store.list()) <= 5

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert store.list() == store_at(tmp_path).list()
    assert len(list(tmp_path.iterdir())) == len(store.list())


BUSY = """
import itertools, sys
from pathlib import Path
from backend.core import ReferenceCodes
from backend.voices.store import VoiceStore
store = VoiceStore(Path(sys.argv[1]), 10_000, 1 << 30)
for number in itertools.count():
    name = f"{sys.argv[2]} {number}"
    codes = ReferenceCodes(name.encode().ljust(64, b".") * 256, 8, "codec a", 1.0)
    store.create(name, codes, name)
    print("+", name, flush=True)
    store.update(name, description="changed")
    print("~", name, flush=True)
    if number % 3 == 0:
        print("-", name, flush=True)
        store.delete(name)
"""


def test_kill_9_leaves_every_voice_whole(tmp_path: Path) -> None:
    created: set[str] = set()
    changed: set[str] = set()
    deleted: set[str] = set()
    for attempt in range(8):
        with child(BUSY, tmp_path, attempt) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(3 + 2 * attempt)]
            process.kill()
            told += process.stdout.readlines()
        lines = [line[:-1] for line in told if line.endswith("\n")]
        for names, sign in ((created, "+"), (changed, "~"), (deleted, "-")):
            names |= {line[2:] for line in lines if line[0] == sign}
        store = store_at(tmp_path)
        with logged("WARNING") as warnings:
            voices = {voice.name: voice for voice in store.list()}
        assert warnings == []
        assert created - deleted <= voices.keys(), "a voice that was acknowledged is lost"
        for name, voice in voices.items():
            prompt = store.prompt(voice.id, "codec a")
            assert prompt.codes.codes == name.encode().ljust(64, b".") * 256
            assert prompt.transcript == name
            assert voice.description == "changed" or name not in changed
        assert {path.name for path in tmp_path.iterdir()} == {
            f"{voice.id}.voice" for voice in voices.values()
        }, "something half written is left"
    assert len(created) > 16


KILLED = """
import os, sys
from pathlib import Path
import psutil
from backend.core import ReferenceCodes
from backend.voices.store import VoiceStore
store = VoiceStore(Path(sys.argv[1]), 10, 1 << 20)
def die(*_): psutil.Process().kill()
real = Path.replace
def die_after(*paths): real(*paths), die()
if sys.argv[2] == "before fsync": os.fsync = die
elif sys.argv[2] == "before replace": Path.replace = die
else: Path.replace = die_after
if sys.argv[3] == "create":
    store.create("Beth", ReferenceCodes(bytes(64), 4, "codec a", 1.0))
else:
    store.update("Ann", name="Beth")
"""


@pytest.mark.parametrize("moment", ["before fsync", "before replace", "after replace"])
@pytest.mark.parametrize("change", ["create", "rename"])
def test_kill_9_at_each_step_of_writing(tmp_path: Path, moment: str, change: str) -> None:
    ann = store_at(tmp_path).create("Ann", CODES)
    with child(KILLED, tmp_path, moment, change) as process:
        process.wait(60)
    assert process.returncode not in (0, 1)
    if moment != "after replace":
        assert len(list(tmp_path.glob("*.tmp"))) == 1, "it was not killed in the middle"
    store = store_at(tmp_path)
    before = ["Ann"]
    after = ["Ann", "Beth"] if change == "create" else ["Beth"]
    assert names_of(store) == (after if moment == "after replace" else before)
    assert store.prompt(ann.id, "codec a").codes == CODES
    assert list(tmp_path.glob("*.tmp")) == []


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    with child("input()") as process:
        writing = tmp_path / f"{'0' * 32}.voice.{process.pid}.tmp"
        writing.write_bytes(b"half")
        strange = tmp_path / "x.tmp"
        strange.write_bytes(b"somebody's")
        ours = tmp_path / f"{'0' * 32}.voice.{os.getpid()}.tmp"  # of a container's last start
        ours.write_bytes(b"half")
        assert store_at(tmp_path).list() == ()
        assert set(tmp_path.iterdir()) == {writing, strange}
