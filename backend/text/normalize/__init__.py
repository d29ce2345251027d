"""Written text to the words a reader would say for it.

Numbers, dates, times, money, units, abbreviations, formulas and signs are read in English; in other
languages that num2words knows, numbers, ordinals, dates, times, percentages and money. Addresses,
markup, marks of references and characters that only look different are read in all. What is not
known stays as it is: the model reads digits too, only less surely. Every rule takes time linear in
the text, which strangers send.
"""

import re
import unicodedata

from backend.text.fold import is_kept
from backend.text.normalize.citation import drop_citations
from backend.text.normalize.compatibility import read_compatibility
from backend.text.normalize.emoji import read_emoji
from backend.text.normalize.english import read_english
from backend.text.normalize.english_grouping import join_narrow_groups
from backend.text.normalize.foreign import read_foreign
from backend.text.normalize.language import rules_for
from backend.text.normalize.latex import read_latex
from backend.text.normalize.markup import plain
from backend.text.normalize.web import read_addresses

_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028]")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*+\n\s*+|\u2029\s*+")
_SPACES = re.compile(r"(?<=\S)[^\S\n]{2,}+(?=\S)")
_NARROW_SPACES = re.compile("[\u00a0\u2007\u202f\u2009]")


def normalize(text: str, language: str) -> str:
    """`text` as it is said in `language`, one of `core.LANGUAGES`.

    "auto" reads by the script, and Latin script by its commonest words; English where nothing
    speaks for another language. Paragraphs stay apart by a blank line. Bracketed markers such as
    "(laughing)" stay. Prose that needs no change is returned unchanged but for composition (NFC).
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join(c for c in text if c.isspace() or is_kept(c))
    text = _PARAGRAPH_END.sub("\n\n", _LINE_END.sub("\n", text))
    rules = rules_for(text, language)
    text = read_compatibility(text, rules)
    if rules == "en":
        text = read_latex(text)
    text = plain(drop_citations(text, rules))
    text = read_emoji(text, rules)
    text = read_addresses(text, rules)
    if rules == "en":
        text = join_narrow_groups(text)
    text = _NARROW_SPACES.sub(" ", text)
    text = read_english(text) if rules == "en" else read_foreign(text, rules)
    return _PARAGRAPH_END.sub("\n\n", _SPACES.sub(" ", text)).strip()
