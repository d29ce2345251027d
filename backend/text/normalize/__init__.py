"""Written text to the words a reader would say for it.

Numbers, dates, times, money, units, abbreviations, formulas and signs are read in English; in the
other languages numbers, ordinals, dates, times, percentages, money, units and some abbreviations.
Addresses, marks of references and characters that only look different are read in all. What is not
known stays as it is: the model reads digits too, only less surely.
Every rule takes time linear in the text, which strangers send.
"""

import re
import unicodedata

from backend.text.markup.marks import ITEM_END
from backend.text.markup.reader import read_markup
from backend.text.normalize.citation import drop_citations
from backend.text.normalize.compatibility import read_compatibility
from backend.text.normalize.emoji import read_emoji
from backend.text.normalize.english import read_english
from backend.text.normalize.english_grouping import join_narrow_groups
from backend.text.normalize.foreign import read_foreign
from backend.text.normalize.language import Languages
from backend.text.normalize.latex import read_latex
from backend.text.normalize.web import read_addresses

_PARAGRAPH_END = re.compile(r"\n[^\S\n]*+\n\s*+|\u2029\s*+")
_SPACES = re.compile(r"(?<=\S)[^\S\n]{2,}+(?=\S)")
_NARROW_SPACES = re.compile("[\u00a0\u2007\u202f\u2009]")


def normalize(text: str, language: str | Languages) -> str:
    """`text` as it is said in `language`, one of `core.LANGUAGES`, or in those of its request.

    "auto" reads by the script, and Latin script by its words; English where nothing speaks for
    another language. A sentence in another script than the rest is read by that script's language.
    Paragraphs stay apart by a blank line. Bracketed markers such as "(laughing)" stay. Prose that
    needs no change is returned unchanged but for composition (NFC).
    """
    languages = Languages.of(text, language) if isinstance(language, str) else language
    return in_words(read_markup(text).replace(ITEM_END, "\n"), languages)


def in_words(text: str, languages: Languages) -> str:
    """As `normalize`, of text without markup: a sentence of it, say."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(_read(run, rules) for run, rules in languages.runs(text))
    return _PARAGRAPH_END.sub("\n\n", _SPACES.sub(" ", text)).strip()


def _read(text: str, language: str) -> str:
    """Text in one language as it is said in it."""
    text = read_compatibility(text, language)
    if language == "en":
        text = read_latex(text)
    text = drop_citations(text, language)
    text = read_emoji(text, language)
    text = read_addresses(text, language)
    if language == "en":
        text = join_narrow_groups(text)
    text = _NARROW_SPACES.sub(" ", text)
    return read_english(text) if language == "en" else read_foreign(text, language)
