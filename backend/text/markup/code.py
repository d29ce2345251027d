"""Code between backticks, which is read as it stands."""

import re
from typing import Final

LONGEST_CODE = 400
"""Characters of it; what runs on longer has lost its end."""
WAIT: Final = -1
"""What follows must be known first."""
NONE: Final = 0
"""Nothing begins there."""
Taken = tuple[int, str]
"""Where what was read ends, or `WAIT`, and what it becomes."""

_RUN = re.compile("`+")


def held(text: str) -> str:
    """What is to be kept of text that waits: of a row of the same mark no more than tells it."""
    is_row = len(text) > LONGEST_CODE and not text.strip(text[0])
    return text[:LONGEST_CODE] if is_row else text


def code_end(text: str, at: int, is_last: bool) -> int:
    """Where the code ends that the backticks at `at` begin: `WAIT`, unless `is_last`, or `NONE`.

    It ends at as many backticks, in the same line.
    """
    opening = _RUN.match(text, at)
    assert opening is not None
    most = opening.end() + LONGEST_CODE
    line_end = text.find("\n", opening.end(), most)
    is_open = line_end < 0 and len(text) < most and not is_last
    for closing in _RUN.finditer(text, opening.end(), most if line_end < 0 else line_end):
        if len(closing[0]) == len(opening[0]):
            if closing.end() == len(text) and not is_last:
                return WAIT
            return closing.end()
    return WAIT if is_open else NONE
