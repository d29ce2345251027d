"""The lines to be read: text and the teacher's phonemes, small enough to carry.

Most words are always said the same way: kept are the text, the ways each word is said, the most
frequent first, and for each word of the text which of its ways it is, nearly always the first.
"""

import json
import lzma
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LINES_FILE = "lines.xz"
_SPACE = b"\x10"  # Kokoro's id of a space
_WAYS = 250


def save_lines(path: Path, lines: Sequence[tuple[str, bytes]]) -> int:
    """Lines whose words and phonemes do not pair up are left out; how many remain."""
    paired = [
        (words, said)
        for text, phonemes in lines
        if len(words := text.split(" ")) == len(said := phonemes.split(_SPACE))
    ]
    counts: dict[str, Counter[bytes]] = {}
    for words, said in paired:
        for word, sound in zip(words, said, strict=True):
            counts.setdefault(word, Counter())[sound] += 1
    ways = {
        word: [sound for sound, _ in sounds.most_common(_WAYS)] for word, sounds in counts.items()
    }
    kept = [
        (words, said)
        for words, said in paired
        if all(sound in ways[word] for word, sound in zip(words, said, strict=True))
    ]
    chosen = bytes(
        ways[word].index(sound)
        for words, said in kept
        for word, sound in zip(words, said, strict=True)
    )
    table = {word: [sound.decode("latin-1") for sound in ways[word]] for word in sorted(ways)}
    text = "\n".join(" ".join(words) for words, _ in kept)
    parts = (text.encode(), json.dumps(table, ensure_ascii=False).encode(), chosen)
    sizes = b"".join(len(part).to_bytes(4, "little") for part in parts)
    data = lzma.compress(sizes + b"".join(parts), preset=9 | lzma.PRESET_EXTREME)
    path.write_bytes(data)
    return len(kept)


def load_lines(path: Path) -> list[tuple[str, bytes]]:
    """Text and phonemes of each line."""
    data = lzma.decompress(path.read_bytes())
    sizes = [int.from_bytes(data[4 * part : 4 * part + 4], "little") for part in range(3)]
    begins = [12, 12 + sizes[0], 12 + sizes[0] + sizes[1]]
    text, table, chosen = (
        data[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)
    )
    ways: dict[str, list[bytes]] = {
        word: [sound.encode("latin-1") for sound in sounds]
        for word, sounds in json.loads(table).items()
    }
    lines, at = [], 0
    for line in text.decode().split("\n"):
        words = line.split(" ")
        sounds = (
            ways[word][way] for word, way in zip(words, chosen[at : at + len(words)], strict=True)
        )
        lines.append((line, _SPACE.join(sounds)))
        at += len(words)
    return lines
