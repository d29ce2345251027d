"""Which codec a checkpoint has, told by its files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import BadCheckpoint
from backend.model.config import codec_fingerprint
from tests.tiny import tiny_checkpoint

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "voice")


def test_a_copy_has_the_same_and_another_transformer_changes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes(b"trained further")
    assert codec_fingerprint(copy) == codec_fingerprint(folder)


def _write(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        file = folder / name
        file.write_bytes(change(file.read_bytes()))

    return apply


@pytest.mark.parametrize(
    "change",
    [
        _write("codec.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        _write("codec.safetensors", lambda data: data + b"\0"),
        _write("codec.json", lambda data: json.dumps({**json.loads(data), "x": 1}).encode()),
        lambda folder: tiny_checkpoint(folder, seed=7),
    ],
)
def test_another_codec_has_another(folder: Path, change: Callable[[Path], object]) -> None:
    before = codec_fingerprint(folder)
    change(folder)
    assert codec_fingerprint(folder) != before


def test_the_ends_of_a_large_file_are_enough(tmp_path: Path) -> None:
    made = set()
    for begin, end in ((b"a", b"b"), (b"c", b"b"), (b"a", b"c")):
        with (tmp_path / "codec.pth").open("wb") as file:
            file.write(begin)
            file.truncate(64 * MIB)  # a hole: nothing is written
            file.seek(64 * MIB - 1)
            file.write(end)
        made.add(codec_fingerprint(tmp_path))
    assert len(made) == 3


def test_without_weights_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"neither codec\.safetensors nor"):
        codec_fingerprint(tmp_path)
