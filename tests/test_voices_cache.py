"""Encoded references: the least recently used is forgotten, and the disk is never an error."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.core import ReferenceCodes
from backend.voices.cache import _ENTRY_BYTES, ReferenceCache
from tests.monitored import logged

CODES = ReferenceCodes(bytes(range(200)) * 5, 4, "codec", 2.5, ("cut at 30 s",))
SIZE_BYTES = len(CODES.codes) + _ENTRY_BYTES
LARGE = 1 << 20


def keys(count: int) -> list[str]:
    return [ReferenceCache.key(b"recording %d" % number, "codec") for number in range(count)]


def held(cache: ReferenceCache, of: list[str]) -> list[int]:
    """Which of the keys are in memory; looking uses none of them."""
    return [number for number, key in enumerate(of) if key in cache._codes]


def test_a_key_tells_recordings_and_codecs_apart() -> None:
    made = {
        ReferenceCache.key(audio, codec)
        for audio in (b"", b"a", b"ab", b"a" * 1_000_000)
        for codec in ("", "a", "b", "ab")
    }
    assert len(made) == 16
    assert all(len(key) == 32 and key.isalnum() for key in made)
    assert ReferenceCache.key(b"a", "b") == ReferenceCache.key(b"a", "b")


def test_memory_forgets_the_least_recently_used() -> None:
    cache = ReferenceCache(None, 3 * SIZE_BYTES, 0)
    five = keys(5)
    for key in five[:3]:
        cache.put(key, CODES)
    assert cache.get(five[0]) is CODES  # used: it stays
    cache.put(five[3], CODES)
    assert held(cache, five) == [0, 2, 3]
    cache.put(five[0], CODES)  # again: not counted twice
    assert cache.held_bytes == 3 * SIZE_BYTES
    cache.put(five[4], ReferenceCodes(CODES.codes * 2, 4, "codec", 5.0))
    assert held(cache, five) == [0, 4]
    assert cache.held_bytes == 2 * SIZE_BYTES + len(CODES.codes)


def test_what_is_larger_than_memory_is_not_kept() -> None:
    for memory_bytes in (0, SIZE_BYTES - 1):
        cache = ReferenceCache(None, memory_bytes, 0)
        cache.put("k", CODES)
        assert cache.get("k") is None
        assert cache.held_bytes == 0


def test_disk_outlives_the_process_and_memory(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "references"
    first = ReferenceCache(folder, LARGE, LARGE)
    (key,) = keys(1)
    assert first.get(key) is None
    assert not folder.exists()
    first.put(key, CODES)
    assert first.clear() == SIZE_BYTES
    assert first.held_bytes == 0
    assert first.get(key) == CODES
    second = ReferenceCache(folder, LARGE, LARGE)
    assert second.get(key) == CODES
    assert second.held_bytes == SIZE_BYTES
    without_memory = ReferenceCache(folder, 0, LARGE)
    assert without_memory.get(key) == without_memory.get(key) == CODES


@pytest.mark.parametrize("disk_bytes", [0, LARGE])
def test_without_a_disk_nothing_is_written(tmp_path: Path, disk_bytes: int) -> None:
    cache = ReferenceCache(None if disk_bytes else tmp_path, LARGE, disk_bytes)
    cache.put("k", CODES)
    assert cache.get("k") == CODES
    assert list(tmp_path.iterdir()) == []


def test_disk_forgets_the_least_recently_used(tmp_path: Path) -> None:
    six = keys(6)
    ReferenceCache(tmp_path, 0, LARGE).put(six[0], CODES)
    (file,) = tmp_path.iterdir()
    file_bytes = file.stat().st_size
    cache = ReferenceCache(tmp_path, 0, 3 * file_bytes)
    for key in six[1:3]:
        cache.put(key, CODES)
    assert cache.get(six[0]) == CODES  # used: it stays
    cache.put(six[3], CODES)
    assert [cache.get(key) is not None for key in six] == [True, False, True, True, False, False]
    for number, index in enumerate((2, 0, 3)):  # the order another process finds
        os.utime(tmp_path / f"{six[index]}.codes", (1000 + number, 1000 + number))
    smaller = ReferenceCache(tmp_path, 0, 2 * file_bytes)
    smaller.put(six[4], CODES)
    assert {path.stem for path in tmp_path.iterdir()} == {six[3], six[4]}
    smaller.put(six[5], ReferenceCodes(CODES.codes * 4, 4, "codec", 9.0))  # larger than the limit
    assert smaller.get(six[5]) is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * file_bytes


def test_a_use_is_seen_by_the_next_process(tmp_path: Path) -> None:
    two = keys(3)
    for number, key in enumerate(two[:2]):
        ReferenceCache(tmp_path, 0, LARGE).put(key, CODES)
        os.utime(tmp_path / f"{key}.codes", (1000 + number, 1000 + number))
    ReferenceCache(tmp_path, 0, LARGE).get(two[0])
    file_bytes = (tmp_path / f"{two[0]}.codes").stat().st_size
    ReferenceCache(tmp_path, 0, 2 * file_bytes).put(two[2], CODES)
    assert {path.stem for path in tmp_path.iterdir()} == {two[0], two[2]}


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign"])
def test_a_damaged_file_is_a_miss_and_removed(tmp_path: Path, damage: str) -> None:
    (key,) = keys(1)
    ReferenceCache(tmp_path, 0, LARGE).put(key, CODES)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(
        {
            "empty": b"",
            "cut": file.read_bytes()[:-1],
            "flipped": bytes(content),
            "foreign": b"{}",
        }[damage]
    )
    cache = ReferenceCache(tmp_path, LARGE, LARGE)
    assert cache.get(key) is None
    assert not file.exists()
    cache.put(key, CODES)
    assert ReferenceCache(tmp_path, 0, LARGE).get(key) == CODES


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or links in folders")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_what_is_no_file_of_ours_is_a_miss_and_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "k.codes"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 33)  # which takes no room
    cache = ReferenceCache(tmp_path, LARGE, LARGE)
    assert cache.get("k") is None
    assert not path.is_symlink() and not path.exists()
    cache.put("k", CODES)
    assert ReferenceCache(tmp_path, LARGE, LARGE).get("k") == CODES


def test_disk_trouble_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = ReferenceCache(tmp_path / "file" / "references", 3 * SIZE_BYTES, LARGE)
    five = keys(5)
    with logged("WARNING") as lines:
        for key in five:
            assert cache.get(key) is None
            cache.put(key, CODES)
        assert cache.get(five[4]) is CODES
        assert cache.get(five[0]) is None
    assert len(lines) == 1
    assert "SHOAL_DATA_DIR" in lines[0]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{keys(1)[0]}.codes.999999999.tmp"
    left.write_bytes(b"half")
    ReferenceCache(tmp_path, LARGE, LARGE).put(keys(1)[0], CODES)
    assert [path.name for path in tmp_path.iterdir()] == [f"{keys(1)[0]}.codes"]


def test_threads_share_it(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path, 3 * SIZE_BYTES, 5 * 2048)
    of = keys(12)

    def work(seed: int) -> None:
        for turn in range(40):
            key = of[(seed * 7 + turn * turn) % len(of)]
            found = cache.get(key)
            assert found is None or found == CODES
            if found is None:
                cache.put(key, CODES)
            assert cache.held_bytes <= 3 * SIZE_BYTES
            if turn % 13 == 0:
                cache.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert cache.held_bytes == len(held(cache, of)) * SIZE_BYTES
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5 * 2048
