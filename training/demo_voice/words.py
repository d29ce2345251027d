"""Words of a text, for comparing texts."""

import re


def normalise_words(text: str) -> list[str]:
    """Lower-case words of ``text``; apostrophes inside words stay, other punctuation goes."""
    words = re.sub(r"[^a-z0-9' ]", " ", text.lower()).split()
    return [stripped for word in words if (stripped := word.strip("'"))]
