"""Voices and encoded recordings in a store that several servers share: S3, as moto speaks it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadSetting, ShoalError, StorageDown, UnknownVoice, VoiceConflict
from backend.voices import folder, remote, sealed
from backend.voices.cache import SUFFIX, ReferenceCache
from backend.voices.files import MISSED_S, SEEN_S, LocalFiles
from backend.voices.folder import file_of_name
from backend.voices.remote import RETRY_S, RemoteFiles, Store
from backend.voices.shared import SETTING, shared_place
from backend.voices.store import Voice, VoiceStore
from backend.voices.voice import MAX_FILE_BYTES, VOICE_SUFFIX, Saved
from tests.monitored import logged
from tests.s3 import KEY, S3, SECRET, local_s3

CODES = ReferenceCodes(bytes(range(120)), 4, "codec a", 1.25)
LARGE = 1 << 20


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.setattr(remote, "PATIENCE_S", 60.0)  # a machine that is busy is no outage
    with local_s3(monkeypatch) as found:
        yield found


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Counting(Store):
    """Counts what is asked of it."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        super().__init__(url, SETTING, clock)
        self.asked: Counter[str] = Counter()

    def call(self, name: str, *arguments: Any, **more: Any) -> Any:
        self.asked[name] += 1
        return super().call(name, *arguments, **more)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in the background is over before whoever began it goes on."""
    begin = remote.in_background

    def now(work: Callable[[], Any]) -> Any:
        coming = begin(work)
        coming.exception()
        return coming

    monkeypatch.setattr(remote, "in_background", now)


class Server:
    """One of several that share a bucket."""

    def __init__(self, bucket: str, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock or Clock()
        self.store = Counting(f"s3://{bucket}/ours", self.clock)
        self.voices = VoiceStore(RemoteFiles(self.store, "voices", VOICE_SUFFIX), 100, LARGE)


def names_of(server: Server) -> list[str]:
    return [voice.name for voice in server.voices.list()]


# -- what servers see of each other ----------------------------------------------------------------


def test_what_one_server_saves_the_others_speak_in(s3: S3) -> None:
    bucket = s3.bucket()
    clock = Clock()
    one, other = Server(bucket, clock), Server(bucket, clock)
    assert names_of(one) == names_of(other) == []
    clock.now_s += MISSED_S
    anna = one.voices.create("Anna", CODES, "Good evening.")
    assert other.voices.get("ANNA") == other.voices.get(anna.id) == anna
    assert other.voices.prompt("Anna", "codec a") == VoicePrompt(CODES, "Good evening.")
    assert Server(bucket).voices.list() == (anna,)
    assert s3.keys(bucket) == [f"ours/voices/{file_of_name('Anna')}.voice"]


def test_what_another_server_changes_is_seen_in_a_while(s3: S3, at_once: None) -> None:
    bucket, clock = s3.bucket(), Clock()
    one, other = Server(bucket, clock), Server(bucket, clock)
    for name in ("Anna", "Ben", "Cleo"):
        one.voices.create(name, CODES, "before")
    assert names_of(other) == ["Anna", "Ben", "Cleo"]
    one.voices.delete("Ben")
    one.voices.update("Anna", transcript="after")
    one.voices.update("Cleo", name="Clea")
    clock.now_s += SEEN_S
    other.voices.list()  # which asks for a listing, and waits for none
    assert names_of(other) == ["Anna", "Clea"]
    assert other.voices.prompt("Anna", "codec a").transcript == "after"
    with pytest.raises(UnknownVoice):
        other.voices.get("Ben")


def test_no_request_lists_the_bucket_or_fetches_a_voice_anew(s3: S3, at_once: None) -> None:
    server = Server(s3.bucket())
    server.voices.create("Anna", CODES)
    clock = server.clock
    assert isinstance(clock, Clock)
    again = Counting(server.store.where, clock)
    voices = VoiceStore(RemoteFiles(again, "voices", VOICE_SUFFIX), 100, LARGE)
    for _ in range(50):
        voices.prompt("Anna", "codec a")
        voices.list()
    assert again.asked == {"ls": 1, "cat_ranges": 1}
    for _ in range(50):
        with pytest.raises(UnknownVoice):
            voices.get("nobody")
    assert again.asked["ls"] == 1, "a name that is not known may have a listing, and that is new"
    clock.now_s += MISSED_S
    for _ in range(50):
        with pytest.raises(UnknownVoice):
            voices.get("nobody")
    assert again.asked["ls"] == 2
    clock.now_s += SEEN_S
    for _ in range(50):
        voices.prompt("Anna", "codec a")
    assert again.asked == {"ls": 3, "cat_ranges": 1}


def test_a_listing_that_was_begun_before_a_voice_was_saved_does_not_hide_it(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, begun = Server(s3.bucket()), []
    server.voices.create("Anna", CODES)
    clock = server.clock
    assert isinstance(clock, Clock)
    begin = remote.in_background

    def before(work: Callable[[], Any]) -> Any:
        begun.append(begin(work))
        begun[-1].result()
        return begun[-1]

    monkeypatch.setattr(remote, "in_background", before)
    clock.now_s += SEEN_S
    assert names_of(server) == ["Anna"]  # a listing comes, and nobody has looked at it
    server.voices.create("Ben", CODES)
    assert names_of(server) == ["Anna", "Ben"]
    assert len(begun) == 1


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_url", [True, False])
def test_of_servers_that_save_one_name_at_once_one_wins(
    s3: S3, tmp_path: Path, is_url: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, count = s3.bucket(), 6
    where = f"s3://{bucket}/ours" if is_url else str(tmp_path)
    places = [shared_place(where) for _ in range(count)]
    stores = [VoiceStore(place("voices", VOICE_SUFFIX), 100, LARGE) for place in places if place]
    barrier = threading.Barrier(count)
    save = folder.VoiceFolder.save

    def all_at_once(self: folder.VoiceFolder, voice: Voice, codes: bytes) -> None:
        barrier.wait(30)  # each has found the name free
        save(self, voice, codes)

    def create(number: int) -> Voice | str:
        try:
            return stores[number].create(("Ann", "ann", "ＡＮＮ")[number % 3], CODES, str(number))
        except ShoalError as error:
            return error.code

    with monkeypatch.context() as patch:
        patch.setattr(folder.VoiceFolder, "save", all_at_once)
        with ThreadPoolExecutor(count) as pool:
            results = list(pool.map(create, range(count)))
    (won,) = [each for each in results if isinstance(each, Voice)]
    assert results.count("voice_conflict") == count - 1
    anew = shared_place(where)
    assert anew is not None
    assert VoiceStore(anew("voices", VOICE_SUFFIX), 100, LARGE).list() == (won,)


def test_a_name_is_taken_for_all_servers_by_a_rename_too(s3: S3) -> None:
    bucket = s3.bucket()
    one, other = Server(bucket), Server(bucket)
    anna = one.voices.create("Anna", CODES)
    other.voices.create("Ben", CODES)
    with pytest.raises(VoiceConflict, match="called Anna already"):
        other.voices.update("Ben", name="anna")
    with pytest.raises(VoiceConflict, match="called Ben already"):
        one.voices.create("BEN", CODES)
    assert one.voices.update(anna.id, name="Cleo").id == anna.id
    assert other.voices.update("Ben", name="Anna").name == "Anna"
    assert sorted(names_of(Server(bucket))) == ["Anna", "Cleo"]
    assert len(s3.keys(bucket)) == 2


@pytest.mark.parametrize("is_old", [True, False])
def test_a_rename_that_was_cut_off_leaves_one_voice(
    s3: S3, monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    """The server died between the new name and the old one."""
    bucket = s3.bucket()
    one = Server(bucket)
    anna = one.voices.create("Anna", CODES)
    renamed = replace(anna, name="Beth")
    if is_old:
        monkeypatch.setattr(folder, "RENAMED_S", -10.0)
    data = sealed.seal(Saved(1, renamed, CODES.codes))
    files = RemoteFiles(one.store, "voices", VOICE_SUFFIX)
    earlier, later = file_of_name("Anna"), file_of_name("Beth")
    files.create(later, data)
    listed = dict(files.look(0.0) or {})
    listed[earlier] = replace(listed[earlier], changed_s=listed[later].changed_s - 1)
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFiles, "look", lambda *_: listed)
        assert VoiceStore(files, 100, LARGE).list() == (renamed,)
    assert len(s3.keys(bucket)) == (1 if is_old else 2)


def test_a_file_that_was_put_by_a_try_that_was_not_answered_is_ours(s3: S3) -> None:
    files = RemoteFiles(Server(s3.bucket()).store, "voices", VOICE_SUFFIX)
    files.create("0" * 32, b"ours")
    files.create("0" * 32, b"ours")  # its library tries again by itself
    with pytest.raises(FileExistsError):
        files.create("0" * 32, b"another's")
    assert files.read("0" * 32, 100) == b"ours"


def test_a_store_that_creates_what_is_there_is_told_of_once(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(s3.bucket())
    attempt = Store._attempt

    def deaf(self: Store, name: str, *arguments: Any, **more: Any) -> Any:
        return attempt(self, name, *arguments, **{k: v for k, v in more.items() if k != "mode"})

    monkeypatch.setattr(Store, "_attempt", deaf)
    with logged("WARNING") as lines:
        server.voices.create("Anna", CODES)
        server.voices.create("Ben", CODES)
    assert len(lines) == 1 and "keep the later one" in lines[0]


# -- what it does not answer -----------------------------------------------------------------------


def test_an_outage_is_told_and_what_is_known_goes_on(s3: S3, at_once: None) -> None:
    bucket, clock = s3.bucket(), Clock()
    server = Server(bucket, clock)
    anna = server.voices.create("Anna", CODES)
    new = Server(bucket, clock)
    s3.stop()
    clock.now_s += SEEN_S
    with logged("WARNING") as lines:
        for _ in range(3):
            assert server.voices.list() == (anna,)
            assert server.voices.prompt("Anna", "codec a").codes == CODES
            clock.now_s += RETRY_S
        calls: tuple[Callable[[], object], ...] = (
            lambda: server.voices.get("Ben"),
            lambda: server.voices.create("Ben", CODES),
            lambda: server.voices.delete("Anna"),
            lambda: server.voices.update("Anna", name="Ben"),
            new.voices.list,
            lambda: new.voices.prompt("Anna", "codec a"),
        )
        for call in calls:
            with pytest.raises(StorageDown, match="Without voice") as down:
                call()
            assert SETTING in str(down.value) and f"s3://{bucket}/ours" in str(down.value)
    told = "".join(lines)
    assert told.count("does not answer") == 2  # each server once
    assert not any(secret in told for secret in (KEY, SECRET, s3.url))
    s3.start()
    for each in (server, new):
        clock.now_s += RETRY_S
        with pytest.raises(UnknownVoice):
            each.voices.get("Ben")  # somebody looks whether it answers, and it does
    assert new.voices.list() == (anna,)


def test_while_it_does_not_answer_nobody_asks_but_one_in_the_background(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(s3.bucket())
    s3.stop()
    attempts: list[str] = []
    attempt = Store._attempt

    def counted(self: Store, name: str, *arguments: Any, **more: Any) -> Any:
        attempts.append(threading.current_thread().name)
        return attempt(self, name, *arguments, **more)

    monkeypatch.setattr(Store, "_attempt", counted)
    for _ in range(20):
        with pytest.raises(StorageDown):
            server.voices.list()
    assert attempts == [threading.current_thread().name]


def test_a_store_that_refuses_to_be_looked_at_is_found_all_the_same(
    s3: S3, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    server = Server(s3.bucket(), clock)
    anna = server.voices.create("Anna", CODES)
    info = server.store._system.info

    def refused(path: str, **more: Any) -> Any:
        info(path, **more)  # it answers, or does not
        raise PermissionError("Forbidden")

    monkeypatch.setattr(server.store._system, "info", refused)
    s3.stop()
    with pytest.raises(StorageDown):
        server.voices.create("Ben", CODES)
    s3.start()
    clock.now_s += RETRY_S
    server.voices.get("Anna")
    clock.now_s += SEEN_S
    with pytest.raises(UnknownVoice):
        server.voices.get("Ben")
    assert server.voices.list() == (anna,)


def test_a_refusal_is_told_and_keeps_nobody_from_asking(s3: S3) -> None:
    server = Server(s3.bucket())
    server.voices.create("Anna", CODES)
    nowhere = Server(f"{s3.bucket()}-none")
    for call in (nowhere.voices.list, lambda: nowhere.voices.create("Anna", CODES)):
        with pytest.raises(StorageDown, match="there is no bucket"):
            call()
    assert names_of(server) == ["Anna"]


# -- what lies there -------------------------------------------------------------------------------


def test_what_is_no_file_of_ours_is_not_fetched(s3: S3) -> None:
    bucket = s3.bucket()
    server = Server(bucket)
    anna = server.voices.create("Anna", CODES)
    good = s3.client().get_object(Bucket=bucket, Key=s3.keys(bucket)[0])["Body"].read()
    renamed = replace(anna, name="x" * 65), replace(anna, name="Ben", language="none")
    others = [(file_of_name(v.name), sealed.seal(Saved(1, v, CODES.codes))) for v in renamed]
    strange = {
        **dict(others),
        "0" * 32: bytes(MAX_FILE_BYTES + 1),
        "1" * 32: b"",
        "2" * 32: good[:-1],
        "3" * 32: good,  # under another's name
        "not an id": good,
    }
    for name, data in strange.items():
        key = f"ours/voices/{name}.voice"
        s3.client().put_object(Bucket=bucket, Key=key, Body=data)
    s3.client().put_object(Bucket=bucket, Key="ours/voices/deeper/x.voice", Body=good)
    fetched: list[str] = []

    class Watched(Counting):
        def call(self, name: str, *arguments: Any, **more: Any) -> Any:
            if name == "cat_ranges":
                fetched.extend(arguments[0])
            return super().call(name, *arguments, **more)

    watched = Watched(server.store.where, Clock())
    voices = VoiceStore(RemoteFiles(watched, "voices", VOICE_SUFFIX), 100, LARGE)
    with logged("WARNING") as lines:
        assert voices.list() == (anna,)
    assert len(lines) == 6
    damaged = {*(each * 32 for each in "0123"), *dict(others)}
    assert set(voices.damaged()) == damaged
    assert not any(name * 32 in path for name in "01" for path in fetched)
    assert len(fetched) == 5
    for each in damaged:
        voices.delete(each)
    assert voices.damaged() == Server(bucket).voices.damaged() == ()


def test_what_is_held_and_what_is_fetched_together_is_bounded(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket()
    server = Server(bucket)
    for name in ("Anna", "Ben", "Cleo", "Dora"):
        server.voices.create(name, CODES)
    (size, *_) = (
        s3.client().head_object(Bucket=bucket, Key=key)["ContentLength"] for key in s3.keys(bucket)
    )
    monkeypatch.setattr(remote, "HELD_BYTES", 2 * size + 20)
    monkeypatch.setattr(remote, "FETCHED_BYTES", 2 * size + 20)
    store = Counting(server.store.where, Clock())
    files = RemoteFiles(store, "voices", VOICE_SUFFIX)
    voices = VoiceStore(files, 100, LARGE)
    assert len(voices.list()) == 4
    assert store.asked["cat_ranges"] == 2
    assert files.held_bytes <= 2 * size + 20
    for name in ("Anna", "Ben", "Cleo", "Dora"):
        assert voices.prompt(name, "codec a").codes == CODES
    assert files.held_bytes <= 2 * size + 20


# -- encoded recordings ----------------------------------------------------------------------------


def test_what_one_server_encoded_the_others_find(s3: S3, tmp_path: Path) -> None:
    place = shared_place(f"s3://{s3.bucket()}/ours")
    assert place is not None
    one, other = (
        ReferenceCache(tmp_path / each, LARGE, LARGE, place("references", SUFFIX))
        for each in ("one", "other")
    )
    key = ReferenceCache.key(b"a recording", "codec a")
    assert one.get(key) is one.fetch(key) is None
    one.put(key, CODES)
    one.share(key, CODES)
    assert other.get(key) is None
    assert other.fetch(key) == other.get(key) == CODES
    assert ReferenceCache(tmp_path / "other", LARGE, LARGE).get(key) == CODES  # on its disk now


def test_the_room_of_encoded_recordings_is_bounded_there_too(s3: S3) -> None:
    bucket = s3.bucket()
    place = shared_place(f"s3://{bucket}/ours")
    assert place is not None
    size = len(sealed.seal(CODES))
    cache = ReferenceCache(None, 0, 3 * size, place("references", SUFFIX))
    keys = [ReferenceCache.key(b"%d" % number, "codec a") for number in range(5)]
    for key in keys:
        cache.share(key, CODES)
    assert len(s3.keys(bucket)) == 3
    assert [cache.fetch(key) is not None for key in keys] == [False, False, True, True, True]


def test_recordings_are_encoded_again_where_it_does_not_answer(s3: S3) -> None:
    place = shared_place(f"s3://{s3.bucket()}/ours")
    assert place is not None
    cache = ReferenceCache(None, LARGE, LARGE, place("references", SUFFIX))
    s3.stop()
    with logged("WARNING") as lines:
        for number in range(3):
            assert cache.fetch(str(number)) is None
            cache.share(str(number), CODES)
    assert sum("encoded again" in line for line in lines) == 1


# -- the setting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://key:5ecret@bucket/x", "credentials belong"),
        ("s3://bucket/x?key=5ecret", "credentials belong"),
        ("simplecache::s3://bucket/x", "and nothing else"),
        ("nonsense://bucket/x", "no protocol of fsspec"),
        ("s3://", "names no bucket"),
    ],
)
def test_a_url_that_cannot_be_is_refused_at_the_start(url: str, says: str) -> None:
    with pytest.raises(BadSetting, match=f"^{SETTING}: ") as refused:
        shared_place(url)
    assert says in str(refused.value)
    assert "5ecret" not in str(refused.value)


def test_a_protocol_whose_package_is_missing_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(BadSetting, match=r'pip install "shoal-tts\[s3\]"'):
        shared_place("s3://bucket/x")


def test_a_folder_may_be_named_as_a_url(tmp_path: Path) -> None:
    assert shared_place("") is None
    for where in (str(tmp_path / "a"), (tmp_path / "a").as_uri()):
        place = shared_place(where)
        assert place is not None
        files = place("voices", VOICE_SUFFIX)
        assert isinstance(files, LocalFiles)
        assert files.where == str(tmp_path / "a" / "voices")


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_another_protocol_keeps_them_as_well(protocol: str, tmp_path: Path) -> None:
    """One whose calls have no deadline; with folders that have to be made, and without."""
    where = f"{protocol}://{tmp_path.as_posix()}/ours"
    one, other, anew = (
        VoiceStore(RemoteFiles(Store(where, SETTING), "voices", VOICE_SUFFIX), 100, LARGE)
        for _ in range(3)
    )
    anna = one.create("Anna", CODES)
    assert other.list() == (anna,)
    with pytest.raises(VoiceConflict):
        other.create("anna", CODES)
    beth = other.update("Anna", name="Beth", transcript="Hello.")
    assert anew.list() == (beth,)
    assert anew.prompt("Beth", "codec a") == VoicePrompt(CODES, "Hello.")
    other.delete("Beth")
    assert VoiceStore(other._folder.files, 100, LARGE).list() == ()
