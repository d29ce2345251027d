"""Text past a limit, cut where it hurts least."""

import unicodedata

import regex

_WINDOW = 0.2
"""Share of the limit within which the last space is looked for."""
_CLUSTER = regex.compile(r"\X")
_SPACE = regex.compile(r"\s(?=\S*$)")


def truncate(text: str, limit: int) -> str:
    """The first `limit` characters of `text` at most, cut at the last space within their last
    fifth; where there is none, between two characters as a reader sees them.
    """
    if len(text) <= limit:
        return text
    # One character more: a word that ends exactly at the limit stays whole.
    space = _SPACE.search(text, limit - int(_WINDOW * limit), limit + 1)
    if space is not None:
        return text[: space.start()].rstrip()
    return text[: last_character_end(text, limit)]


def last_character_end(text: str, limit: int) -> int:
    """Where to cut within the first `limit` code points so that what a reader sees as one
    character stays whole. Where the first one is already longer, before its last base letter; if
    it has only one, `limit` itself."""
    end = 0
    for cluster in _CLUSTER.finditer(text):
        if cluster.end() > limit:
            break
        end = cluster.end()
    if end:
        return end
    bases = (i for i in range(limit, 0, -1) if not unicodedata.category(text[i]).startswith("M"))
    return next(bases, limit)
