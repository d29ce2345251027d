"""The lines to be read: text and the teacher's phonemes, in two compressed files."""

import lzma
from collections.abc import Sequence
from pathlib import Path

TEXT_FILE, PHONEMES_FILE = "text.txt.xz", "phonemes.bin.xz"


def save_lines(folder: Path, lines: Sequence[tuple[str, bytes]]) -> None:
    """Phonemes are never 0, which therefore ends a line of them."""
    text = "\n".join(text for text, _ in lines).encode()
    phonemes = b"\0".join(phonemes for _, phonemes in lines)
    for name, data in ((TEXT_FILE, text), (PHONEMES_FILE, phonemes)):
        (folder / name).write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def load_lines(folder: Path) -> list[tuple[str, bytes]]:
    """Text and phonemes of each line."""
    text = lzma.decompress((folder / TEXT_FILE).read_bytes()).decode().split("\n")
    phonemes = lzma.decompress((folder / PHONEMES_FILE).read_bytes()).split(b"\0")
    return list(zip(text, phonemes, strict=True))
