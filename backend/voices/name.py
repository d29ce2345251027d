"""What a voice may be called, and when two names are the same."""

import re
import unicodedata

from backend.errors import BadField

MAX_NAME_CHARACTERS = 64
MAX_UNCOMPOSED_CHARACTERS = 4 * MAX_NAME_CHARACTERS
"""A longer name is too long however Unicode composes it."""
NAME_RULE = (
    f"a name is 1 to {MAX_NAME_CHARACTERS} letters and digits of any script, with spaces, "
    "'_', '-' and '.' between them"
)
_BETWEEN = " _-."
_ID = re.compile(r"[0-9a-f]{32}")


def is_id(text: str) -> bool:
    """It is what an id looks like."""
    return _ID.fullmatch(text) is not None


def checked_name(name: str) -> str:
    """`name` in the form it is kept in, Unicode's NFC; raises `BadField`."""
    if len(name) > MAX_UNCOMPOSED_CHARACTERS:
        raise BadField(f"name has {len(name)} characters; {NAME_RULE}.")
    composed = unicodedata.normalize("NFC", name)
    if len(composed) > MAX_NAME_CHARACTERS:
        raise BadField(f"name has {len(composed)} characters; {NAME_RULE}.")
    if not composed:
        raise BadField(f"name is empty; {NAME_RULE}.")
    for place, character in enumerate(composed):
        is_inside = 0 < place < len(composed) - 1
        if not (_is_letter(character, place) or (is_inside and character in _BETWEEN)):
            where = "" if is_inside or character not in _BETWEEN else " at its start or end"
            raise BadField(f"name holds {character!a}{where}; {NAME_RULE}.")
    if is_id(composed.casefold()):
        raise BadField("name looks like the id of a voice; choose one that does not.")
    return composed


def name_key(name: str) -> str:
    """The same for names that differ in nothing but upper and lower case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_letter(character: str, place: int) -> bool:
    # Marks are the vowels of many scripts; none stands without its letter.
    kinds = "LN" if place == 0 else "LNM"
    return unicodedata.category(character)[0] in kinds
