"""A voice's file that leaves and comes back, and files of those who mean harm."""

import random
import struct
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadField, StorageFull, VoiceConflict
from backend.voices import sealed
from backend.voices.store import Voice, VoiceStore
from backend.voices.voice import (
    MAX_CODEBOOKS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_FILE_BYTES,
    MAX_FRAMES,
    MAX_TRANSCRIPT_CHARACTERS,
    open_foreign,
)

CODES = ReferenceCodes(bytes(range(120)), 4, "codec a", 1.25)
HEAD_BYTES = 22
"""Magic and digest."""


def store_at(folder: Path, max_voices: int = 100, max_bytes: int = 8 << 20) -> VoiceStore:
    return VoiceStore(folder, max_voices, max_bytes)


def exported(folder: Path, name: str = "Ann", codes: ReferenceCodes = CODES) -> bytes:
    """The file of a voice that somebody has."""
    store = store_at(folder)
    store.create(name, codes, "Good evening.", "Calm.")
    return store.export_file(name)[1]


def sealed_body(body: bytes) -> bytes:
    """Any body with a digest that is right: everybody can make one."""
    return b"shoal\x01" + sealed._digest(body) + body


def changed(data: bytes, **voice: Any) -> bytes:
    """The file with other fields of its voice; `version` and `codes` are the file's own."""
    raw = msgspec.msgpack.decode(data[HEAD_BYTES:])
    for name in ("version", "codes"):
        if name in voice:
            raw[name] = voice.pop(name)
    raw["voice"] |= voice
    return sealed.seal(raw)


def test_an_export_is_the_file_and_imports_as_the_same_voice(tmp_path: Path) -> None:
    data = exported(tmp_path / "there")
    (file,) = (tmp_path / "there").iterdir()
    assert data == file.read_bytes()
    there = store_at(tmp_path / "there")
    made = there.get("Ann")
    assert there.export_file(made.id) == (made, data)
    here = store_at(tmp_path / "here")
    got = here.import_file(data)
    assert got == replace(made, id=got.id)
    assert got.id != made.id
    assert store_at(tmp_path / "here").list() == (got,)
    assert here.prompt("ann", "codec a") == VoicePrompt(CODES, "Good evening.")
    again = here.import_file(data, "Zoe\u0308")
    assert again == replace(got, id=again.id, name="Zoë")


def test_an_import_is_held_to_what_create_is(tmp_path: Path) -> None:
    data = exported(tmp_path / "there")
    store = store_at(tmp_path / "here", max_voices=2)
    store.create("ANN", CODES)
    with pytest.raises(VoiceConflict, match="called ANN already"):
        store.import_file(data)
    for name in ("../x", "x" * 65, "a\0", "f" * 32, "😀"):
        with pytest.raises(BadField, match="name"):
            store.import_file(data, name)
        with pytest.raises(BadField, match="name"):
            store.import_file(changed(data, name=name))
    with pytest.raises(BadField, match="transcript has 5001"):
        store.import_file(changed(data, transcript="a" * (MAX_TRANSCRIPT_CHARACTERS + 1)), "Beth")
    with pytest.raises(BadField, match="description has 1001"):
        store.import_file(changed(data, description="a" * (MAX_DESCRIPTION_CHARACTERS + 1)), "Beth")
    store.import_file(data, "Beth")
    with pytest.raises(StorageFull, match="SHOAL_MAX_VOICES"):
        store.import_file(data, "Cleo")
    with pytest.raises(StorageFull, match="SHOAL_VOICES_LIMIT_MB"):
        store_at(tmp_path / "small", max_bytes=len(data) - 1).import_file(data)
    assert len(list((tmp_path / "here").iterdir())) == 2


def test_the_largest_voice_there_may_be_is_no_larger_than_a_file(tmp_path: Path) -> None:
    codes = ReferenceCodes(bytes(2 * MAX_CODEBOOKS * MAX_FRAMES), MAX_CODEBOOKS, "a" * 64, 60.0)
    store = store_at(tmp_path)
    texts = "𝄞" * MAX_TRANSCRIPT_CHARACTERS, "𝄞" * MAX_DESCRIPTION_CHARACTERS
    store.create("𝔄" * 64, codes, *texts)
    _, data = store.export_file("𝔄" * 64)
    assert len(data) <= MAX_FILE_BYTES
    assert store.import_file(data, "again").frames == MAX_FRAMES


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"version": 2}, "version"),
        ({"version": "1"}, "version"),
        ({"id": "../../etc/passwd"}, "its id"),
        ({"id": "F" * 32}, "its id"),
        ({"id": None}, "id"),
        ({"name": 5}, "name"),
        ({"codec_id": ""}, "codec_id"),
        ({"codec_id": "a" * 65}, "codec_id"),
        ({"codec_id": "a\nb"}, "codec_id"),
        ({"codec_id": "ж"}, "codec_id"),
        ({"num_codebooks": 0}, "not as long"),
        ({"num_codebooks": -4, "frames": -15}, "not as long"),
        ({"num_codebooks": 4.0}, "int"),
        ({"num_codebooks": True}, "int"),
        ({"num_codebooks": 2**64 - 1}, "not as long"),
        ({"num_codebooks": 65, "frames": 1, "codes": bytes(130)}, "more or fewer codes"),
        ({"frames": 14}, "not as long"),
        ({"frames": 2**63}, "not as long"),
        ({"frames": 0, "codes": b""}, "more or fewer codes"),
        ({"frames": MAX_FRAMES + 1, "codes": bytes(8 * (MAX_FRAMES + 1))}, "more or fewer codes"),
        ({"codes": bytes(119)}, "not as long"),
        ({"codes": "text"}, "bytes"),
        ({"codes": [1, 2]}, "bytes"),
        ({"audio_s": float("nan")}, "audio_s"),
        ({"audio_s": float("inf")}, "audio_s"),
        ({"audio_s": -1.25}, "audio_s"),
        ({"audio_s": 0.0}, "audio_s"),
        ({"audio_s": 5e-324}, "audio_s"),
        ({"audio_s": 1000.0}, "audio_s"),
        ({"audio_s": "1.25"}, "audio_s"),
        ({"created_at": ""}, "created_at"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": "2026-11-23"}, "created_at"),
        ({"created_at": "2026-11-23T05:00:00.000000"}, "created_at"),
        ({"created_at": "2026-11-23T05:00:00.000000+02:00"}, "created_at"),
        ({"created_at": "2026-11-23T05:00:00.000000Z"}, "created_at"),
        ({"created_at": "2026-13-23T05:00:00.000000+00:00"}, "created_at"),
        ({"created_at": "2026-11-23T05:00:00.000000+00:00" * 1000}, "created_at"),
    ],
)
def test_a_sealed_file_with_a_field_that_is_none(
    tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    data = changed(exported(tmp_path / "there"), **fields)
    store = store_at(tmp_path / "here")
    with pytest.raises(BadField, match=r"^file is damaged, or no exported voice") as refused:
        store.import_file(data)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 400
    assert not (tmp_path / "here").exists()


def test_what_is_cut_off_or_flipped_is_refused(tmp_path: Path) -> None:
    data = exported(tmp_path / "there")
    store = store_at(tmp_path / "here")
    cut = [data[:length] for length in (0, 1, 6, 21, 22, 23, len(data) - 1)]
    flips = []
    for bit in random.Random(1).sample(range(8 * len(data)), 200):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        flips.append(bytes(flipped))
    others = [data + b"\0", data * 2, b"RIFF a recording", bytes(1000), sealed.seal(CODES)]
    for bad in (*cut, *flips, *others):
        with pytest.raises(BadField, match="file is damaged"):
            store.import_file(bad)
    assert not (tmp_path / "here").exists()


BOMBS = {
    "nested": b"\x81\xa1x" + b"\x91" * 100_000 + b"\x00",
    "nested maps": b"\x81\xa1x" + b"\x81\xa0" * 100_000 + b"\x00",
    "nested voice": b"\x81\xa5voice" + b"\x81\xa5voice" * 50_000,
    "array of 4 billion": b"\x81\xa1x\xdd\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "bytes of 4 GB": b"\x81\xa5codes\xc6\xff\xff\xff\xff",
    "text of 4 GB": b"\x81\xa5voice\x81\xa4name\xdb\xff\xff\xff\xff",
    "a million empty arrays": b"\x81\xa1x\xdd" + struct.pack(">I", 1_000_000) + b"\x90" * 1_000_000,
    "no UTF-8": b"\x81\xa5voice\x81\xa4name\xa2\xff\xff",
    "half a character": b"\x81\xa5voice\x81\xa4name\xa3\xed\xa0\x80",
    "extension": b"\x81\xa5voice\xc7\x01\x05\x00",
    "invalid byte": b"\xc1",
    "nothing": b"",
    "a number": b"\x05",
    "a list": b"\x93\x01\x02\x03",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_and_takes_no_memory(tmp_path: Path, bomb: str) -> None:
    data, store = sealed_body(BOMBS[bomb]), store_at(tmp_path / "here")
    tracemalloc.start()
    try:
        with pytest.raises(BadField, match="file is damaged"):
            store.import_file(data)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + (1 << 20)
    finally:
        tracemalloc.stop()
    with pytest.raises(sealed.DamagedFile):  # where it lies in the folder it does no more harm
        sealed.opened(sealed_body(BOMBS[bomb]), Voice)


def test_a_file_that_is_too_large_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "opened", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(sealed.DamagedFile, match="no voice has that many"):
        open_foreign(bytes(MAX_FILE_BYTES + 1))


def test_what_a_newer_server_adds_is_left_out(tmp_path: Path) -> None:
    data = exported(tmp_path / "there")
    made = store_at(tmp_path / "here").import_file(changed(data, mood="calm"))
    assert "mood" not in asdict(made)
    assert store_at(tmp_path / "here").list() == (made,)
