"""A long text in portions that are normalised one after another, as they are needed."""

import re
from collections.abc import Iterator

PORTION_CHARACTERS = 2000
"""A portion is cut at the first paragraph's end past so many characters: most texts are one."""
MOST_CHARACTERS = 6000
"""A paragraph that is longer is cut as well, at a line's or a sentence's end, or at a space."""

_PARAGRAPH_END = re.compile(r"\n[^\S\n]*+\n\s*+|\u2029\s*+")
_LINE_END = re.compile(r"\n")
_STOP = re.compile(r"(?<=[a-zà-ÿа-я]{4})\.[\"'”’»)]*+\s++(?=[^\W\d_a-zà-ÿа-я])|[!?]\s++|[。！？।]")
_SPACE = re.compile(r"\s")


def portions(text: str) -> Iterator[str]:
    """The pieces of `text`, which are joined the text again; none for an empty one."""
    start = 0
    while len(text) - start > PORTION_CHARACTERS:
        end = _end(text, start)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _end(text: str, start: int) -> int:
    """Where the portion that begins at `start` ends."""
    least, most = start + PORTION_CHARACTERS, start + MOST_CHARACTERS
    for boundary in (_PARAGRAPH_END, _LINE_END, _STOP, _SPACE):
        if found := boundary.search(text, least, most):
            return found.end()
    return min(most, len(text))
