"""How often a short text is read in another language: ``python -m benchmarks.language``.

Prints a row for each language of `tests/languages/`: 100 sentences, 1,000 English ones. With
``--english FILE`` a row for the lines of that file, taken for English, too. The last line is JSON.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from backend.text.normalize.language import Languages

SENTENCES = Path(__file__).parent.parent / "tests" / "languages"


def sentences(language: str) -> list[str]:
    """Those of the test set."""
    return (SENTENCES / f"{language}.txt").read_text("utf-8").splitlines()


def errors(language: str, lines: list[str]) -> tuple[Counter[str], list[str]]:
    """What `lines` in `language` are taken for instead, and those that are."""
    taken = [(Languages.of(line, "auto").main, line) for line in lines]
    wrong = [(other, line) for other, line in taken if other != language]
    return Counter(other for other, _ in wrong), [line for _, line in wrong]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--english", type=Path, help="English text, a sentence in each line")
    given: Path | None = parser.parse_args().english
    sets = {
        path.stem: (path.stem, sentences(path.stem)) for path in sorted(SENTENCES.glob("*.txt"))
    }
    if given is not None:
        sets[given.name] = ("en", given.read_text("utf-8").splitlines())
    wrong_pct, seconds = {}, 0.0
    print("| text in | sentences | wrong | taken for |\n| --- | --- | --- | --- |")
    for name, (language, lines) in sets.items():
        began = time.perf_counter()
        taken_for, wrong = errors(language, lines)
        seconds += time.perf_counter() - began
        told = ", ".join(f"{other} {count}" for other, count in taken_for.most_common())
        print(f"| {name} | {len(lines)} | {len(wrong)} | {told} |")
        wrong_pct[name] = round(100 * len(wrong) / len(lines), 4)
    count = sum(len(lines) for _, lines in sets.values())
    per_call_us = round(1e6 * seconds / count, 1)
    print(json.dumps({"wrong_pct": wrong_pct, "us_per_sentence": per_call_us}))


if __name__ == "__main__":
    main()
