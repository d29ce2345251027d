"""Which language's rules a text is read by when the request does not say."""

import re
from collections import Counter

_SAMPLE = 4000
"""Characters that are looked at."""
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
    ("zh", re.compile("[\u3400-\u9fff]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("en", re.compile("[A-Za-zÀ-ɏ]")),
)
_KANA_SHARE = 0.1
"""Japanese is mostly written in the characters of Chinese; this much of it is not."""

_COMMON_WORDS = {
    "en": "the of and to in is was for that with on it you at by this are be from have not what",
    "de": "der die das und ist nicht ein eine einen mit von zu den auf für sich dem es ich wir um",
    "fr": "le les des et est une un du dans pour que qui pas sur avec au ce il elle nous vous à",
    "es": "el los las y es una un del en para que por con no se su al lo como más está",
    "pl": "i w na jest nie się to z do że od jak dla po ale są za przez był była o",
    "it": "il gli di e è una un della che per con non sono nel alla si del anche più lo",
    "pt": "o os as e é uma um do da em para que por com não se ao mais como está são",
    "tr": "ve bir bu için ile de da çok en ne gibi daha o ben sen mi değil var yok olarak",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _COMMON_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)


def rules_for(text: str, language: str) -> str:
    """`language`, or what the script and the commonest words of `text` speak for if it is "auto".

    English where nothing speaks for another.
    """
    if language != "auto":
        return language
    sample = text[:_SAMPLE]
    letters = {name: len(script.findall(sample)) for name, script in _SCRIPTS}
    if letters["ja"] > _KANA_SHARE * letters["zh"]:
        letters["ja"] += letters.pop("zh")
    script = max(letters, key=lambda name: letters[name])
    return _latin(sample) if script == "en" else (script if letters[script] else "en")


def _latin(sample: str) -> str:
    votes: Counter[str] = Counter()
    for word in _WORD.findall(sample.lower()):
        votes.update(_LANGUAGES_OF.get(word, ()))
    best = max(_COMMON_WORDS, key=lambda language: votes[language])
    # One word proves nothing: names and quotations are full of them.
    return best if votes[best] > 1 and votes[best] > votes["en"] else "en"
