"""What a voice may be called, and when two names are the same."""

import re
import unicodedata

import regex

from backend.errors import BadField

MAX_NAME_CHARACTERS = 64
MAX_UNCOMPOSED_CHARACTERS = 4 * MAX_NAME_CHARACTERS
"""A longer name is too long however Unicode composes it."""
NAME_RULE = (
    f"a name is 1 to {MAX_NAME_CHARACTERS} letters and digits of any script, with spaces, "
    "'_', '-' and '.' between them"
)
_BETWEEN = " _-."
_ALIKE = {
    script: regex.compile(rf"\p{{Script={script}}}")
    for script in ("Latin", "Greek", "Cyrillic", "Armenian", "Cherokee", "Coptic", "Lisu")
}
"""Scripts with letters that look like another's: a reader cannot tell which were typed."""
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
    mixed = [script for script, letter in _ALIKE.items() if letter.search(composed)]
    if len(mixed) > 1:
        raise BadField(
            f"name mixes {' and '.join(mixed)} letters, which look alike; write it in one script."
        )
    if is_id(composed.casefold()):
        raise BadField("name looks like the id of a voice; choose one that does not.")
    return composed


def name_key(name: str) -> str:
    """The same for names that differ in nothing but upper and lower case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def look_key(name: str) -> str:
    """The same for names that differ in nothing but case and the forms of their letters.

    Those are wide, bold, superscript and the like: what Unicode calls compatible.
    """
    return name_key(unicodedata.normalize("NFKC", name))


def _is_letter(character: str, place: int) -> bool:
    # Marks are the vowels of many scripts; none stands without its letter.
    kinds = "LN" if place == 0 else "LNM"
    return unicodedata.category(character)[0] in kinds
