"""Marks of references, "[2]" after a sentence say, which nobody reads aloud."""

import re

_NUMBERS = r"\d{1,3}(?: ?[,;–—-] ?\d{1,3}){0,20}"
_ONE = (
    rf"(?:\[\[{_NUMBERS}\]\]|\[{_NUMBERS}(?:, ?pp?\. ?\d{{1,4}}(?:[–-]\d{{1,4}})?)?\]|"
    r"\[\^\w{1,20}\](?!:)|"
    r"\[(?:note|nb|n|ref|lower-alpha)\.? \d{1,3}\]|"
    r"\[(?:citation|clarification|verification|page|better source|attribution) needed\]|"
    r"\[(?:who|when|where|which|why|according to whom)\?\])"
    r"(?:\((?:https?://|#)[^()\s]{1,800}\))?|【\d{1,4}(?::\d{1,3})?†[^】\n]{0,100}】"
)
_CITATION = re.compile(
    rf"(?P<gap>[ \u00a0]?)(?P<all>(?:{_ONE})(?:(?:,? ?(?:and )?)(?:{_ONE})){{0,20}}+)"
    r"(?P<stop>\.(?!\w|\.))?"
)
_ONE_NUMBER = re.compile(r"\d{1,3}")
_WORD_BEFORE = re.compile(r"[\w.]{1,40}$")
_CODE_WORDS = (
    "array arr list lst data items item args argv values matrix vector tuple dict buffer nums "
    "index stack queue node nodes keys params result string char"
)
_CODE_NAMES = frozenset(_CODE_WORDS.split())
_OBJECT_WANTED = re.compile(
    r"\b(?:[Ii]n|[Ss]ee|[Bb]y|[Ff]rom|[Tt]o|[Ww]ith|[Oo]f|[Cc]f\.|[Pp]er|[Vv]ia|[Ff]ollowing|"
    r"e\.g\.|[Rr]efs?\.|[Rr]eferences?|than|like)$"
)
_VALUES_WANTED = re.compile(
    r"(?:[=:(,∈]|\b(?:is|are|equals|returns?|list|array|vector|interval|range|tuple|set|be|between|"
    r"prints?|outputs?|gives|contains|sort|append|into))$"
)
_OF_PROGRAMS = re.compile(r"[\[\](${<>@#&=|+*/\\^~-]$|[$@]\{?\w{1,39}$")
_INDEX_NAMED = re.compile(r"\b(?:index|element|position|slot|row|column|entry)$")
_NAMED_BEFORE = re.compile(r"\brefs?\.?$|\breferences?$", re.IGNORECASE)
_SUBJECT = re.compile(r" [a-z]{3}")
_SPAN = re.compile(r" ?[–—-] ?")
_INSIDE = re.compile(r"\[+([^\[\]]+)\]+")
_ENDS = ".!?"
_STEP = re.compile(r"\s*(?:=[^=]|\+|\*|\(|\.[a-z])")
_RAISED = re.compile(
    r"(?<=[a-z]{4})(?<!meter)(?<!metre)(?<!mile)(?<!feet)(?<!foot)(?<!inch)(?<!second)[⁰¹²³⁴-⁹]{1,3}"
    r"(?:[,˒⁻–-][⁰¹²³⁴-⁹]{1,3}){0,5}(?![\w^⁰¹²³⁴-⁹])"
    r"|(?<=[^\W\d_][.,;!?”\"])[⁰¹²³⁴-⁹]{1,3}(?:[,⁻–-][⁰¹²³⁴-⁹]{1,3}){0,5}(?=\s|$)"
)
"""The number of a note, written as a power."""
_LINE = re.compile(r"(?:^|\n)[ \t]*$")


def drop_citations(text: str, language: str) -> str:
    """`text` without marks of references and notes; the end of a sentence before one stands.

    Indices, "a[2]", stay without their brackets, lists of numbers stay, and markers of sounds.
    """
    if "[" in text or "【" in text:
        text = _CITATION.sub(lambda found: _citation(found, language), text)
    return _RAISED.sub("", text)


def _citation(found: re.Match[str], language: str) -> str:
    text, start, end = found.string, found.start(), found.end()
    mark, gap, stop = found["all"], found["gap"], found["stop"] or ""
    numbers = _ONE_NUMBER.findall(mark) if mark[0] == "[" else []
    before = text[max(0, start - 40) : start]
    if not gap and (index := _index(before, mark, stop + text[end : end + 3])):
        return index + stop
    if _LINE.search(before):
        number = _ONE_NUMBER.search(mark)
        is_entry = number and mark == f"[{number[0]}]" and text[end : end + 1] == " "
        return f"{gap}{number[0]}." if is_entry and number else found[0]
    is_list = mark.count("[") == 1 and "," in mark
    if is_list and (_VALUES_WANTED.search(before) or "0" in numbers):
        return f"{gap}{mark[1:-1]}{stop}"
    if "0" in numbers or (not gap and _OF_PROGRAMS.search(before)):
        return found[0]
    if gap and numbers and _INDEX_NAMED.search(before):
        return f" {numbers[0]}{stop}" if len(numbers) == 1 else found[0]
    is_subject = before[-1:] in _ENDS and _SUBJECT.match(text, end) and before
    if language == "en" and gap and numbers and (is_subject or _OBJECT_WANTED.search(before)):
        named = "" if _NAMED_BEFORE.search(before) else "reference"
        named += "s" if named and len(numbers) > 1 else ""
        named = named.capitalize() if is_subject else named
        read = " and ".join(_SPAN.sub(" to ", each) for each in _INSIDE.findall(mark))
        return f" {named} {read}{stop}".replace("  ", " ")
    if before[-1:] in _ENDS:
        return " " if text[end : end + 1].isalnum() else ""
    return stop


def _index(before: str, mark: str, following: str) -> str:
    """`mark` as indices of the name that stands before it, "" where that is none."""
    word = _WORD_BEFORE.search(before)
    if word is None or mark[0] != "[" or not mark[1].isdecimal() or word[0].endswith("."):
        return ""
    name = word[0].rpartition(".")[2]
    numbers = _ONE_NUMBER.findall(mark)
    is_code = (
        name.lower() in _CODE_NAMES
        or "_" in name
        or (len(name) <= 2 and not name.isdecimal())
        or (not name.isdecimal() and any(c.isdecimal() for c in name))
        or (name[:1].islower() and name != name.lower())
        or "0" in numbers
        or _STEP.match(following) is not None
    )
    return " " + " ".join(numbers) if is_code and numbers else ""
