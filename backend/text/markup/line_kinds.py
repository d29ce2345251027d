"""What a line of Markdown is, told by its beginning as soon as that is certain."""

import re
from dataclasses import dataclass
from enum import Enum, auto

import regex


class Kind(Enum):
    """Of a line, and of the piece of text that it begins."""

    BLANK = auto()
    RULE = auto()
    """Marks alone."""
    UNDERLINE = auto()
    """Marks alone that make the paragraph before them a heading."""
    TABLE_RULE = auto()
    FENCE = auto()
    NOTHING = auto()
    """Where a link leads: not to be read."""
    HEADING = auto()
    STRONG = auto()
    """A line in bold, which is a heading where something follows."""
    ITEM = auto()
    NUMBERED = auto()
    ROW = auto()
    CODE = auto()
    PROSE = auto()
    NOTE = auto()
    """A footnote's beginning."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of a line."""

    kind: Kind
    text: str = ""
    """So far, without the marks at its beginning."""
    is_indented: bool = False
    fence: str = ""
    """The marks of a fence."""


_UNDECIDED = 400
"""Characters of marks alone that are waited through for a word, or of a heading for its end."""
LONGEST_ROW = 2000
"""Characters; what runs on longer is no row."""
_PIPE = "|│┃║"

_BEGINNING = re.compile(r"[ \t]*+(?:>(?![\d=])[ \t]*+){0,16}+")
_SAYABLE = re.compile(r"[^\W_]|\$|\\[\[\]]")  # "$$" or a bracket may begin a formula
_UNDERLINE = re.compile(r"(?:=+|-{2,})[ \t]*")
_TABLE_RULE = re.compile(r"(?=[^|]*\|)[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*(?:\||$))+[ \t]*")
_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*([^`]*)")
_HEADING = re.compile(r"#{1,6}[ \t]+")
_HEADING_END = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
_ITEM = re.compile(r"(?:[-*+•‣◦▪●○■□·⁃∙➤►▶→][ \t]+)+")
_BOX = re.compile(r"\[[ xX✓✔]\][ \t]+")
_NUMBERED = re.compile(r"(?:\d{1,3}[.)]|[A-Za-z]\))[ \t]+(?=\S)")
_NUMBER_SO_FAR = re.compile(r"\d{1,3}|(?:\d{1,3}[.)]|[A-Za-z]\))[ \t]*|[A-Za-z]")
_STRONG = regex.compile(r"(\*\*|__)(?=[^\s*_])[^*_]{1,120}+(?<=\S)\1(?::?[ \t]{0,8})")
_DEFINITION = regex.compile(
    r"\[(?!\^)[^\[\]]{1,100}+\]:[ \t]{1,8}+<?(?:https?://|mailto:|\.{0,2}/|#)\S{1,800}+"
    r"(?:[ \t]{1,8}+[\"'(].{0,200}+)?"
)
_NOTE = regex.compile(r"\[\^[^\[\]\s]{1,40}\]:[ \t]{0,8}+")
_ALERT = regex.compile(r"\[!([A-Za-z]{1,20})\][+-]?[ \t]{0,8}+")
_INFO = regex.compile(
    r"(?:\{[^{}]{0,100}\}|([\w.+#/-]{1,40}+))"
    r"(?:[ \t]{1,4}+(?:\{[^{}]{0,100}\}|[\w-]{1,40}+=\S{1,100}|\d[\d,-]{0,40})){0,8}[ \t]{0,8}+"
)
_LANGUAGES = frozenset(
    [
        "ada",
        "apache",
        "asm",
        "assembly",
        "awk",
        "bash",
        "bat",
        "batch",
        "bibtex",
        "c",
        "c#",
        "c++",
        "clojure",
        "cmake",
        "cmd",
        "cobol",
        "coffeescript",
        "conf",
        "console",
        "cpp",
        "cs",
        "csharp",
        "css",
        "csv",
        "cuda",
        "cypher",
        "d",
        "dart",
        "diff",
        "docker",
        "dockerfile",
        "elixir",
        "elm",
        "env",
        "erlang",
        "f#",
        "fish",
        "fortran",
        "fsharp",
        "git",
        "gitignore",
        "glsl",
        "go",
        "gradle",
        "graphql",
        "groovy",
        "h",
        "haskell",
        "hcl",
        "hpp",
        "html",
        "http",
        "ini",
        "java",
        "javascript",
        "js",
        "json",
        "json5",
        "jsonc",
        "jsonl",
        "jsx",
        "julia",
        "kotlin",
        "kt",
        "latex",
        "less",
        "lisp",
        "log",
        "lua",
        "make",
        "makefile",
        "markdown",
        "mathematica",
        "matlab",
        "md",
        "mermaid",
        "nginx",
        "nim",
        "nix",
        "none",
        "objc",
        "objective-c",
        "ocaml",
        "octave",
        "output",
        "pascal",
        "perl",
        "php",
        "plain",
        "plaintext",
        "plantuml",
        "powershell",
        "proto",
        "protobuf",
        "ps1",
        "py",
        "python",
        "python3",
        "r",
        "rb",
        "regex",
        "rs",
        "ruby",
        "rust",
        "sass",
        "scala",
        "scheme",
        "scss",
        "sh",
        "shell",
        "solidity",
        "sql",
        "svelte",
        "swift",
        "systemd",
        "terraform",
        "tex",
        "text",
        "toml",
        "ts",
        "tsx",
        "txt",
        "typescript",
        "vb",
        "vba",
        "verilog",
        "vhdl",
        "vim",
        "vue",
        "wasm",
        "xml",
        "yaml",
        "yml",
        "zig",
        "zsh",
    ]
)


def line_of(line: str, is_whole: bool, is_table: bool) -> Line | None:
    """What `line` is, or begins to be; None is that more of it must be known.

    `is_table` is that it follows a row of a table.
    """
    beginning = _BEGINNING.match(line)
    assert beginning is not None
    text = line[beginning.end() :]
    if not is_whole and not text:
        return None
    # What is decided depends on the text alone, however much of it is there at once.
    if not _SAYABLE.search(text, 0, _UNDECIDED):
        if len(text) >= _UNDECIDED:
            return Line(Kind.PROSE, text)
        return _marks(text) if is_whole else None
    is_indented = line[:1] in " \t" and line[: beginning.end()].isspace()
    found = _of(text, is_whole, is_table)
    if found is None or found.kind is not Kind.PROSE:
        return found
    return Line(Kind.PROSE, found.text, is_indented)


def _marks(text: str) -> Line:
    text = text.rstrip()
    if not text:
        return Line(Kind.BLANK)
    fence = _FENCE.fullmatch(text)
    if fence and (text[0] == "`" or len(text) < 5):  # more tildes are an ornament
        return Line(Kind.FENCE, fence=text)
    if _TABLE_RULE.fullmatch(text):
        return Line(Kind.TABLE_RULE)
    return Line(Kind.UNDERLINE if _UNDERLINE.fullmatch(text) else Kind.RULE)


def _of(text: str, is_whole: bool, is_table: bool) -> Line | None:
    """Of a line that has something to say."""
    c = text[0]
    if (is_table or c in _PIPE) and len(text) < LONGEST_ROW:
        if not is_whole:
            return None
        if row := _row(text, is_table):
            return row
    match c:
        case "`" | "~":
            return _fence(text, is_whole)
        case "#":
            return _heading(text, is_whole)
        case "[":
            return _bracket(text, is_whole)
    if item := _ITEM.match(text):
        rest = text[item.end() :]
        if not is_whole and rest.startswith("[") and len(rest) < 5:
            return None
        return Line(Kind.ITEM, _BOX.sub("", rest, count=1) if _BOX.match(rest) else rest)
    if text.startswith(("**", "__")) and (strong := _STRONG.fullmatch(text, partial=not is_whole)):
        return Line(Kind.STRONG, text) if is_whole and not strong.partial else None
    if not is_whole and _NUMBER_SO_FAR.fullmatch(text):
        return None
    return Line(Kind.NUMBERED if _NUMBERED.match(text) else Kind.PROSE, text)


def _row(text: str, is_table: bool) -> Line | None:
    text = text.strip()
    if is_table:
        is_row = any(c in text for c in _PIPE)
    else:
        is_row = len(text) > 1 and (text[-1] in _PIPE or text[1].isspace())
    if not is_row:
        return None
    cells = [cell.strip() for cell in re.split(rf"(?<!\\)[{_PIPE}]", text)]
    return Line(Kind.ROW, ", ".join(cell for cell in cells if cell))


def _fence(text: str, is_whole: bool) -> Line | None:
    fence = _FENCE.fullmatch(text)
    if fence is None or (fence[2] and not is_whole and not _is_info(fence[2], is_partial=True)):
        return Line(Kind.PROSE, text)
    if not is_whole:
        return None
    if not _is_info(fence[2], is_partial=False):
        return Line(Kind.PROSE, text)
    name = _INFO.match(fence[2])
    # A word that is no language may be one that was meant to be read.
    is_language = name is None or name[1] is None or name[1].lower() in _LANGUAGES
    return Line(Kind.FENCE, "" if is_language else fence[2], fence=fence[1])


def _is_info(text: str, is_partial: bool) -> bool:
    return _INFO.fullmatch(text.rstrip(), partial=is_partial) is not None


def _heading(text: str, is_whole: bool) -> Line | None:
    heading = _HEADING.match(text)
    if heading is None:
        return Line(Kind.PROSE, text)
    title = text[heading.end() :]
    if len(text) < _UNDECIDED:
        return Line(Kind.HEADING, _HEADING_END.sub("", title)) if is_whole else None
    return Line(Kind.HEADING, title)


def _bracket(text: str, is_whole: bool) -> Line | None:
    if definition := _DEFINITION.fullmatch(text, partial=not is_whole):
        return Line(Kind.NOTHING) if is_whole and not definition.partial else None
    for pattern, kind in ((_NOTE, Kind.NOTE), (_ALERT, Kind.STRONG)):
        found = pattern.match(text, partial=not is_whole)
        if found is None:
            continue
        if not is_whole and (found.partial or found.end() == len(text)):
            return None
        if kind is Kind.NOTE:
            return Line(kind, text[found.end() :])
        if is_whole and found.end() == len(text):
            return Line(kind, found[1].capitalize())
    return Line(Kind.PROSE, text)
