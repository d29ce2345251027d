"""What clients call a language: codes, tags of regions and names, as one of `core.LANGUAGES`."""

import re
import unicodedata

from backend.core import LANGUAGES
from backend.errors import BadField, quoted

_NAMES = {
    "auto": "automatic detect detected default multilingual mul und none any unknown",
    "en": "eng english a b",
    "zh": "zho chi cmn yue chinese mandarin cantonese 中文 汉语 漢語 普通话 z",
    "ja": "jpn jp japanese 日本語 j",
    "ko": "kor kr korean 한국어",
    "fr": "fra fre french français francais f",
    "de": "deu ger german deutsch",
    "es": "spa spanish castilian español espanol castellano e",
    "pl": "pol polish polski",
    "ru": "rus russian русский",
    "it": "ita italian italiano i",
    "pt": "por portuguese brazilian português portugues p",
    "ar": "ara arb arabic العربية",
    "hi": "hin hindi हिन्दी हिंदी h",
    "tr": "tur turkish türkçe turkce",
}
"""Beside its code: of three letters, in English, in itself, and the letter that Kokoro's servers
have for it."""
_KNOWN = {name: code for code, names in _NAMES.items() for name in (code, *names.split())}
_TAG = re.compile(r"[^\W_]+")
MAX_LANGUAGE_CHARACTERS = 64
"""Of a language as a client names it."""


def find_language(named: str) -> str | None:
    """`named` as one of `LANGUAGES`: a code ("de"), a tag ("de-DE", "pt_BR", "zh-Hans-CN"), or a
    name in English or in itself ("German", "Brazilian Portuguese"), in upper or lower case.

    "" is "auto"; None is none that is known.
    """
    if len(named) > MAX_LANGUAGE_CHARACTERS:
        return None
    name = unicodedata.normalize("NFC", named).strip().lower()
    words = _TAG.findall(name)
    # In a name the language comes last, in a tag it comes first; what is in brackets is neither.
    is_tag = re.search("[-_.@]", name) is not None
    start, end = (words[0], words[-1]) if words else ("", "")
    return _KNOWN.get(name or "auto") or _KNOWN.get(start if is_tag else end) or _KNOWN.get(start)


def unknown_language(named: str) -> str:
    """What is to be said of a language that is none."""
    return f"{quoted(named)} is not known; use one of {', '.join(LANGUAGES)}"


def language_code(named: str, field: str = "language") -> str:
    """As `find_language`; raises `BadField`, which names `field`."""
    code = find_language(named)
    if code is None:
        raise BadField(f"{field}: {unknown_language(named)}.")
    return code


def one_language(language: str, lang_code: str) -> str:
    """What a request names as `language` or as `lang_code`; `BadField` where the two differ."""
    codes = (language_code(language), language_code(lang_code, "lang_code"))
    told = {code for code in codes if code != "auto"}
    if len(told) > 1:
        raise BadField(
            f"language and lang_code are the same, and say {' and '.join(codes)}; send one of them."
        )
    return told.pop() if told else "auto"
