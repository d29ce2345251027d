"""Training text for the demo voice; `teacher_files.py` builds and stores it.

Sources, all licence-clean: Debian's python3.11-doc (PSF licence), wordnet-base (WordNet licence),
wamerican (public domain), bible-kjv with bible-kjv-text (the text is public domain; the program
that unpacks it is GPL and only run), and sentences from templates of our own. The packages come
through ``apt-get download``; with the same packages the output is the same, byte for byte.
"""

import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from backend.text.normalize import normalize
from training.demo_voice.everyday import Everyday
from training.demo_voice.words import normalise_words
from training.demo_voice.written import Written

PACKAGES = ("python3.11-doc", "wordnet-base", "wamerican", "bible-kjv-text", "bible-kjv")
HELD_OUT = Path(__file__).with_name("heldout.txt")
_HELD_OUT_FILES = "heldout*.txt"
MIN_CHARACTERS, MAX_CHARACTERS = 2, 250
SEED = 20
_SHARED_WORDS = 5

# At most so many lines of each source.
_CAPS = {
    "everyday": 48_000,
    "wordnet_examples": 30_000,
    "random_words": 12_000,
    "figures": 12_000,
    "long": 9_000,
    "python_docs": 9_000,
    "people": 8_000,
    "questions": 8_000,
    "turns": 6_000,
    "wordnet_glosses": 6_000,
    "bible": 3_000,
}
_REPEATED = "turns"
"""Its lines are few, and each is worth hearing from several speakers."""

_ALLOWED = re.compile(r"""[A-Za-z0-9.,!?;:'"\- ]+""")
_CODE_LIKE = re.compile(
    r"[a-z][A-Z]|\.[A-Za-z]|[a-z]:[a-z]|\d[A-Za-z]{3}|[A-Za-z]\d|--|\.\.|^\W|[,;:]{2}|\d{7}|[:,]$"
)
_OFFENSIVE = re.compile(r"offensive|slur|vulgar|obscene|disparag|derogat|genital|sexual|taboo")


def fetch_packages(folder: Path) -> Path:
    """Download and unpack the Debian packages below ``folder``; the unpacked root."""
    root = folder / "root"
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        for archive in sorted(folder.glob(f"{package}_*.deb")):
            subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)
    return root


def clean(text: str) -> str:
    """ASCII punctuation, no markup, single spaces."""
    for old, new in (("\u2019", "'"), ("\u2018", "'"), ("\u201c", '"'), ("\u201d", '"'),
                     ("\u2013", "-"), ("\u2014", " - "), ("--", " - "), ("``", ""), ("**", ""),
                     ("*", "")):  # fmt: skip
        text = text.replace(old, new)
    text = re.sub(r"\(([^()]{1,40})\)", r", \1,", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.;:!?])", r"\1", text)
    return re.sub(r",+([.,;:!?])", r"\1", text)


def speakable(line: str) -> bool:
    """Whether ``line`` is ordinary prose of a fit length in the allowed characters."""
    if not MIN_CHARACTERS <= len(line) <= MAX_CHARACTERS or not _ALLOWED.fullmatch(line):
        return False
    words = line.split()
    acronyms = sum(word.isalpha() and word.isupper() and len(word) > 1 for word in words)
    return (
        not _CODE_LIKE.search(line)
        and max(map(len, words)) <= 18
        and acronyms <= 1
        and sum(character.isdigit() for character in line) <= 9
        and line.count('"') % 2 == 0
    )


def split_sentences(text: str) -> Iterator[str]:
    """The sentences of cleaned running text, each ending in . ! or ?"""
    for part in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", text):
        sentence = part.strip(" -'")
        if len(sentence.split()) >= 3:
            yield sentence if sentence[-1] in ".!?" else sentence.rstrip(",;:- ") + "."


def python_docs(root: Path) -> Iterator[str]:
    """Prose from the reStructuredText sources of Python's documentation."""
    folder = root / "usr/share/doc/python3.11/html/_sources"
    for path in sorted(folder.rglob("*.txt")):
        text = path.read_text(errors="ignore")
        text = re.sub(r":[\w:]+:`[~!]?([^`<]*)(<[^`]*>)?`", r"\1", text)
        text = re.sub(r"`([^`<]*) <[^`]*>`_+", r"\1", text)
        for paragraph in re.split(r"\n\s*\n", text):
            if not paragraph.strip().startswith(("..", ">>>", "*", "=", "+", "|")):
                yield from split_sentences(clean(paragraph))


def wordnet(root: Path, examples: bool) -> Iterator[str]:
    """WordNet's example sentences, or its definitions as sentences of their own."""
    for path in sorted((root / "usr/share/wordnet").glob("data.*")):
        for line in path.read_text().splitlines():
            fields, _, gloss = line.partition(" | ")
            if not gloss or line.startswith("  ") or _OFFENSIVE.search(gloss):
                continue
            if examples:
                for quoted in re.findall(r'"([^"]+)"', gloss):
                    text = clean(quoted).strip(" ;,-'")
                    if text:
                        yield text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
            else:
                word = re.sub(r"\(.*\)", "", fields.split()[4]).replace("_", " ")
                meaning = clean(gloss.split('; "')[0].split(";")[0]).strip(" ;,-'.")
                yield f"{word[0].upper()}{word[1:]}: {meaning}."


def bible(root: Path) -> Iterator[str]:
    """The King James verses, long ones split at colons, semicolons and full stops."""
    program = root / "usr/bin/bible"
    command = [str(program), "-p", str(root / "usr/lib"), "-f", "gen1:1-rev22:21"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    for verse in result.stdout.decode(errors="ignore").splitlines():
        text = clean(verse.partition(" ")[2])
        parts = [text] if len(text) <= 160 else re.split(r"(?<=[:;.?!]) ", text)
        for part in parts:
            said = part.rstrip(":;,. ")
            if len(said.split()) >= 3:
                yield said[0].upper() + said[1:] + ("" if said[-1] in "?!" else ".")


def random_words(rng: random.Random, words: list[str]) -> Iterator[str]:
    """Endless rows of unrelated words with random punctuation: pronunciation without context.

    Each word comes once before any comes twice.
    """
    left: list[str] = []
    while True:
        count = rng.choice((2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 14, 18))
        if len(left) < count:
            left = rng.sample(words, len(words))
        row = [left.pop() + ("," if rng.random() < 0.2 else "") for _ in range(count)]
        if rng.random() < 0.3:
            row = [word.rstrip(",") + "," for word in row[:-2]] + [row[-2].rstrip(","), "and",
                                                                    row[-1]]  # fmt: skip
        text = " ".join(row).rstrip(",")
        yield text[0].upper() + text[1:] + rng.choice("....?!")


def held_out_filter(held_out: Iterable[str]) -> Callable[[str], bool]:
    """A test: does a line share a whole sentence or any five words in a row with these?"""
    runs: set[tuple[str, ...]] = set()
    whole: set[tuple[str, ...]] = set()
    for sentence in held_out:
        words = normalise_words(sentence)
        whole.add(tuple(words))
        runs.update(_runs(words))

    def shares(line: str) -> bool:
        words = normalise_words(line)
        return tuple(words) in whole or not runs.isdisjoint(_runs(words))

    return shares


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + _SHARED_WORDS]) for i in range(len(words) - _SHARED_WORDS + 1))


def held_out_sentences() -> list[str]:
    """What no line may share five words with."""
    files = sorted(HELD_OUT.parent.glob(_HELD_OUT_FILES))
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def build(root: Path) -> list[tuple[str, str]]:
    """Every line of the corpus, as the server would send it to a model, and its source; shuffled.

    Numbers and signs are words; a short turn may come several times.
    """
    rng = random.Random(SEED)
    listed = (root / "usr/share/dict/american-english").read_text().split()
    words = sorted({word for word in listed if re.fullmatch(r"[a-z]{2,13}", word)})
    written = Written(random.Random(SEED + 3), words)
    finite: dict[str, Callable[[], Iterator[str]]] = {
        "wordnet_examples": lambda: wordnet(root, examples=True),
        "wordnet_glosses": lambda: wordnet(root, examples=False),
        "python_docs": lambda: python_docs(root),
        "bible": lambda: bible(root),
    }
    endless: dict[str, Iterator[str]] = {
        "everyday": Everyday(random.Random(SEED + 1), words).sentences(),
        "random_words": random_words(random.Random(SEED + 2), words),
        "figures": written.figures(),
        "people": written.people(),
        "questions": written.questions(),
        "turns": written.turns(),
        "long": written.long(),
    }
    shares = held_out_filter(held_out_sentences())
    taken: list[tuple[str, str]] = []
    known: set[str] = set()

    def take(source: str, lines: Iterable[str]) -> None:
        left = _CAPS[source]
        for raw in lines:
            if left == 0:
                return
            if source in finite and not speakable(raw):
                continue
            line = normalize(raw, "en")
            is_new = source == _REPEATED or line not in known
            if is_new and speakable(line) and not shares(line):
                known.add(line)
                taken.append((line, source))
                left -= 1

    for source, read in finite.items():
        lines = list(dict.fromkeys(read()))
        rng.shuffle(lines)
        take(source, lines)
    for source, stream in endless.items():
        take(source, stream)
    rng.shuffle(taken)
    return taken


def describe(corpus: Sequence[tuple[str, str]]) -> str:
    """What the corpus holds, in a few lines."""
    lengths = [len(line) for line, _ in corpus]
    asked = sum(line.endswith("?") for line, _ in corpus) / len(corpus)
    long = sum(length >= 150 for length in lengths) / len(corpus)
    short = sum(len(line.split()) <= 3 for line, _ in corpus) / len(corpus)
    told = [
        f"{len(corpus)} lines, mean {sum(lengths) / len(lengths):.1f} characters; {asked:.1%} "
        f"questions, {long:.1%} of 150 characters and more, {short:.1%} of three words and fewer"
    ]
    told += [f"  {name}: {count}" for name, count in Counter(s for _, s in corpus).most_common()]
    return "\n".join(told)
