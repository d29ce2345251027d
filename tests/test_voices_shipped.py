"""Voices that come with a checkpoint: what is read of it, and how they stand beside the saved."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadField, UnknownVoice, VoiceConflict
from backend.voices import shipped as shipped_module
from backend.voices.shipped import MAX_SHIPPED, ShippedVoices, write_shipped
from backend.voices.store import VoiceStore
from tests.monitored import logged
from tests.test_voices_store import CODES, names_of
from tests.test_voices_voice import changed

OTHER = replace(CODES, codes=bytes(reversed(CODES.codes)))


def read(folder: Path, codec_id: str = CODES.codec_id) -> ShippedVoices:
    return ShippedVoices.read(folder, codec_id)


def store(data: Path, folder: Path, max_voices: int = 10) -> VoiceStore:
    return VoiceStore(data, max_voices, 1 << 20, read(folder))


def test_a_shipped_voice_speaks_by_name_and_id(tmp_path: Path) -> None:
    path = write_shipped(tmp_path, "Ada", CODES, "Good evening.", "Low and calm.")
    assert path == tmp_path / "Ada.voice"
    voices = store(tmp_path / "data", tmp_path, max_voices=0)
    (ada,) = voices.list()
    assert (ada.name, ada.transcript, ada.description) == ("Ada", "Good evening.", "Low and calm.")
    assert ada.is_shipped
    for name in ("Ada", "ADA", ada.id):
        assert voices.get(name) == ada
        assert voices.prompt(name, CODES.codec_id) == VoicePrompt(CODES, "Good evening.")
    with pytest.raises(UnknownVoice, match="did you mean Ada"):
        voices.get("Adda")
    assert not (tmp_path / "data").exists()
    with pytest.raises(UnknownVoice):
        voices.get("x" * 100_000)


def test_its_id_follows_from_its_name(tmp_path: Path) -> None:
    for folder, codes in (("a", CODES), ("b", OTHER)):
        write_shipped(tmp_path / folder, "Ada", codes)
    assert read(tmp_path / "a").voices[0].id == read(tmp_path / "b").voices[0].id


def test_it_stays_as_it_is(tmp_path: Path) -> None:
    path = write_shipped(tmp_path, "Ada", CODES)
    data = path.read_bytes()
    voices = store(tmp_path / "data", tmp_path)
    for name in ("ada", voices.get("ada").id):
        with pytest.raises(VoiceConflict, match="The voice Ada ships with the checkpoint"):
            voices.delete(name)
        with pytest.raises(VoiceConflict, match="The voice Ada ships with the checkpoint"):
            voices.update(name, description="Mine.")
    assert path.read_bytes() == data
    assert names_of(voices) == ["Ada"]


def test_a_saved_voice_goes_before_one_of_its_name(tmp_path: Path) -> None:
    for name in ("Ada", "Ben"):
        write_shipped(tmp_path, name, CODES)
    voices = store(tmp_path / "data", tmp_path, max_voices=1)
    shipped = voices.get("ada")
    own = voices.create("ADA", OTHER)
    assert voices.get("Ada") == own
    assert voices.prompt("Ada", CODES.codec_id).codes == OTHER
    assert names_of(voices) == ["Ben", "ADA"]
    assert voices.prompt(shipped.id, CODES.codec_id).codes == CODES
    assert voices.update("Ada", description="Mine.").id == own.id
    voices.delete("Ada")
    assert voices.list()[0] == shipped
    assert names_of(voices) == ["Ada", "Ben"]


def test_it_is_taken_along_as_a_saved_one(tmp_path: Path) -> None:
    path = write_shipped(tmp_path, "Ada", CODES, "Good evening.")
    voices = store(tmp_path / "data", tmp_path)
    _, data = voices.export_file("Ada")
    assert data == path.read_bytes()
    own = voices.import_file(data, "Eve")
    assert not own.is_shipped
    assert not voices.get("Eve").is_shipped
    assert voices.prompt("Eve", CODES.codec_id) == VoicePrompt(CODES, "Good evening.")
    voices.delete("Eve")


def test_no_file_says_that_it_ships(tmp_path: Path) -> None:
    path = write_shipped(tmp_path, "Ada", CODES)
    lying = changed(path.read_bytes(), is_shipped=True)
    voices = store(tmp_path / "data", tmp_path)
    with pytest.raises(BadField, match="says that it ships"):
        voices.import_file(lying)
    own = voices.create("Eve", CODES)
    file = tmp_path / "data" / f"{own.id}.voice"
    file.write_bytes(changed(file.read_bytes(), is_shipped=True, name="Longer"))
    assert store(tmp_path / "data", tmp_path).damaged() == (own.id,)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda data: data[:-1], "its digest is another's"),
        (lambda data: b"", "its digest is another's"),
        (lambda data: changed(data, codec_id="codec b"), "another codec than this checkpoint's"),
        (lambda data: changed(data, codes=b"1"), "not as long as it says"),
        (lambda data: changed(data, is_shipped=True), "says that it ships"),
        (lambda data: changed(data, name="../x"), "name holds '/'|name holds '.'"),
        (lambda data: changed(data, description="x" * 1001), "description has 1001 characters"),
        (lambda data: changed(data, audio_s=1e9), "its audio_s is not that of its frames"),
        (lambda data: changed(data, id="1"), "its id is none"),
        (lambda data: changed(data, name="Ben"), "another file holds Ben"),
        (lambda data: data + bytes(3 << 20), "it has more than"),
    ],
)
def test_what_is_no_voice_of_this_checkpoint_is_left_out(
    tmp_path: Path, fault: Callable[[bytes], bytes], told: str
) -> None:
    write_shipped(tmp_path, "Ben", CODES)
    eve = write_shipped(tmp_path, "Eve", CODES)
    eve.write_bytes(fault(eve.read_bytes()))
    with logged("WARNING") as lines:
        (left,) = read(tmp_path).voices
    assert left.name == "Ben"
    (line,) = lines
    assert re.search(told, line)
    assert str(eve) in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_is_no_voice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Ada.voice")
    with logged("WARNING") as lines:
        assert read(tmp_path).voices == ()
    assert "no regular file" in lines[0]


def test_their_number_and_their_size_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = write_shipped(tmp_path, "v000", CODES).stat().st_size
    for number in range(1, MAX_SHIPPED + 2):
        write_shipped(tmp_path, f"v{number:03}", CODES)
    with logged("WARNING") as lines:
        assert len(read(tmp_path).voices) == MAX_SHIPPED
    assert f"more than {MAX_SHIPPED}" in lines[0]
    monkeypatch.setattr(shipped_module, "MAX_SHIPPED_BYTES", 3 * size)
    with logged("WARNING") as lines:
        few = read(tmp_path).voices
    assert 3 <= len(few) <= 3 * size // len(CODES.codes)
    assert any("it has more than" in line for line in lines)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "voices").write_text("no folder")
    with logged("WARNING") as lines:
        assert read(tmp_path / "voices").voices == ()
    assert "left out" in lines[0]


def test_what_cannot_be_a_voice_is_not_written(tmp_path: Path) -> None:
    for name, transcript in (("../x", ""), ("", ""), ("Ada", "x" * 5001)):
        with pytest.raises(BadField):
            write_shipped(tmp_path, name, ReferenceCodes(b"", 1, "c", 1.0), transcript)
    assert not list(tmp_path.iterdir())
