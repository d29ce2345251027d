"""Does what was learned foretell requests better than the formula? On rows it has not seen.

    python -m benchmarks.learning --requests 1000 --metrics-dir FOLDER
    python -m benchmarks.learning --url http://127.0.0.1:8000 --first 400 --requests 200
    python -m benchmarks.learning --judge FOLDER

The first speaks a fixed mix through a real server of the shipped voice that learns nothing: texts
of 8 to 300 characters in six languages, every eighth after a recording, most alone and some four
at once. The second sends a part of the same mix to a server that runs already. The last learns from
the first 70 % of the rows in FOLDER and judges the rest, which needs river. Prints a table, then
one JSON line.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from backend.learning.case import TARGETS
from backend.learning.judge import Judge
from backend.learning.lessons import Lesson, read_lessons
from benchmarks.machine import recording
from tests.e2e.serving import serving

LANGUAGES = ("en", "de", "fr", "es", "ru", "zh")
TEXTS = Path(__file__).parent.parent / "tests" / "languages"
LEAST_CHARACTERS, MOST_CHARACTERS = 8, 300
TOGETHER, ALONE = 4, 12
"""Of each 16 requests in a row, the last are sent together."""
LEARNED_SHARE = 0.7
_SEED = 15
_RECORDING_S = 6.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request of the mix."""

    number: int
    language: str
    text: str
    has_recording: bool


def mix(requests: int) -> list[Wanted]:
    """The same for the same number; a longer one begins with a shorter one."""
    chance = random.Random(_SEED)
    lines = {each: (TEXTS / f"{each}.txt").read_text("utf-8").splitlines() for each in LANGUAGES}
    wanted = list[Wanted]()
    for number in range(requests):
        language = chance.choice(LANGUAGES)
        bounds = math.log(LEAST_CHARACTERS), math.log(MOST_CHARACTERS)
        length = round(math.exp(chance.uniform(*bounds)))
        text = ""
        while len(text) < length:
            text += chance.choice(lines[language]) + " "
        wanted.append(Wanted(number, language, text.strip(), number % 8 == 3))
    return wanted


async def speak(url: str, wanted: Sequence[Wanted]) -> int:
    """Send them, as the mix wants it; how many were spoken."""
    voice, spoken = recording(_RECORDING_S), 0

    async with httpx.AsyncClient(base_url=url, timeout=300) as http:

        async def ask(each: Wanted) -> bool:
            fields = {"text": each.text, "seed": str(each.number)}
            files = {"speaker_file": ("voice.wav", voice)} if each.has_recording else None
            answer = await http.post("/tts", data=fields, files=files)
            return answer.status_code == 200

        for start in range(0, len(wanted), ALONE + TOGETHER):
            group = wanted[start : start + ALONE + TOGETHER]
            for each in group[:ALONE]:
                spoken += await ask(each)
            spoken += sum(await asyncio.gather(*map(ask, group[ALONE:])))
    return spoken


def judge(lessons: Sequence[Lesson]) -> dict[str, dict[str, float]]:
    """Learn from the first, predict the rest: median and 90th percentile of how far off each was,
    against what came. Weights stay as they are, while seconds follow the machine as they do in a
    server."""
    from backend.learning.learner import learn  # noqa: PLC0415 - sending needs no river

    border = round(LEARNED_SHARE * len(lessons))
    models, found = learn(lessons[:border]), dict[str, dict[str, float]]()
    for target in TARGETS:
        held_out = [each for each in lessons[border:] if target in each.took]
        off: dict[str, list[float]] = {"learned": [], "formula": []}
        judge = Judge(target)
        for each in held_out:
            formula, truth = each.formula, each.took[target]
            learned = formula.base(target, each.case) * models[target].times(each.case)
            told = judge.told(learned, formula)
            judge.hear(learned, formula, truth)
            off["learned"].append(abs(told / truth - 1))
            off["formula"].append(abs(formula.of(target) / truth - 1))
        found[target] = {"learned_from": models[target].rows, "held_out": len(held_out)}
        for name, errors in off.items():
            found[target][f"{name}_median"] = round(statistics.median(errors), 4)
            found[target][f"{name}_p90"] = round(statistics.quantiles(errors, n=10)[-1], 4)
            found[target][f"{name}_mean"] = round(statistics.fmean(errors), 4)
    return found


def show(found: dict[str, dict[str, float]]) -> None:
    """A table, then one JSON line."""
    print("                held-out   median off         90th percentile    mean")
    print("                rows       formula learned    formula learned    formula learned")
    for target, figures in found.items():
        cells = [
            f"{figures[f'{name}_{kind}']:7.1%}"
            for kind in ("median", "p90", "mean")
            for name in ("formula", "learned")
        ]
        pairs = "    ".join(" ".join(cells[i : i + 2]) for i in (0, 2, 4))
        print(f"{target:15} {figures['held_out']:7}    {pairs}")
    print(json.dumps(found))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first that is sent")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--metrics-dir", type=Path)
    parser.add_argument("--judge", type=Path, metavar="FOLDER")
    parser.add_argument("--engine", default="shoal/shoal-demo")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    if asked.judge:
        show(judge(read_lessons(asked.judge, asked.engine, asked.device, since="")))
        return
    wanted = mix(asked.first + asked.requests)[asked.first :]
    if asked.url:
        print(f"{asyncio.run(speak(asked.url, wanted))} of {len(wanted)} spoken")
        return
    if asked.metrics_dir is None:
        parser.error("--metrics-dir says where the rows go")
    told = {"SHOAL_METRICS": "true", "SHOAL_METRICS_DIR": str(asked.metrics_dir)}
    with serving(**told, SHOAL_LEARN="false") as served:
        print(f"{asyncio.run(speak(served.url, wanted))} of {len(wanted)} spoken")
    show(judge(read_lessons(asked.metrics_dir, asked.engine, asked.device, since="")))


if __name__ == "__main__":
    main()
