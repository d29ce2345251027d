"""`make samples`: ten things that the shipped voice says, and a page to hear them.

Each text is spoken alone, through what `shoal say` speaks through, into a wav in `samples/`;
`index.html` beside them needs no server. Three of the ten are said in voices that the checkpoint
ships, so one without voices says seven.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from loguru import logger

from backend.audio.write import AudioWriter
from backend.core import AudioOutput, Line, ReferenceAudio, SamplingParams, SpeechRequest
from backend.settings import load_settings
from backend.smart_backend import SmartBackend

CHAPTERS = Path(__file__).parent / "chapters.txt"
PAGE = "index.html"
SEED = 1
TEXTS = {
    "everyday": (
        "The default voice",
        "Good morning. The train leaves at the usual time, so there is no need to hurry.",
    ),
    "questions": (
        "Questions, and what is exclaimed",
        "Are you coming with us, or would you rather stay at home? What a pity! Well, next time.",
    ),
    "numbers": (
        "Numbers, dates, times and sums of money",
        "On 3 March 2027 at 7:45 pm, 1,250 people paid $18.50 each, about 12% more than in 1998.",
    ),
    "abbreviations": (
        "Abbreviations, letters and addresses",
        "Dr. Miller of NASA lives at 42 St. James Ave.; write to her at info@example.org, "
        "e.g. about the USB port.",
    ),
}
INTRODUCTION = "I am {}, and this is how I sound."
TALK = (
    "Did you hear that? Somebody is on the stairs.",
    "It is only the wind. It comes down the chimney every autumn.",
    "The wind does not wear boots.",
    "Then it is Thomas, and he has forgotten his key again.",
)
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid #8886; padding: .75rem 0; }
h2 { font-size: 1.1rem; margin: 0; }
p { margin: .4rem 0; }
audio { width: 100%; }
.figures { opacity: .7; font-size: .875rem; }
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Something to be said, and what is to be heard in it."""

    name: str
    title: str
    request: SpeechRequest


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was said, and what it took in seconds of wall clock."""

    sample: Sample
    file: str
    text: str
    """In the words in which it was read."""
    audio_s: float
    first_audio_s: float
    total_s: float
    warnings: tuple[str, ...]

    @property
    def figures(self) -> str:
        """One line."""
        told = f"{self.audio_s:.1f} s, RTF {self.total_s / self.audio_s:.2f}"
        return f"{told}, first sound after {self.first_audio_s:.2f} s"


def in_default_voice() -> Iterator[Sample]:
    """What any checkpoint says."""
    for name, (title, text) in TEXTS.items():
        yield _sample(name, title, text)
    lines = CHAPTERS.read_text("utf-8").splitlines()
    yield _sample("long", "A long text: sentences, spoken side by side and joined", *lines[:4])
    yield _sample("streamed", "Joined while it is made", *lines[4:6], is_streamed=True)
    yield _sample("slow", "At four fifths of the tempo, at the same pitch", lines[7], speed=0.8)


def in_voices(names: Sequence[str]) -> Iterator[Sample]:
    """What voices of these `names` say; nothing where there are fewer than two."""
    if len(names) < 2:
        return
    each = [Line(INTRODUCTION.format(name), name) for name in names]
    yield _dialogue("voices", "The voices that it ships", each)
    two = names[0], names[len(names) // 2]
    talk = [Line(text, two[turn % 2]) for turn, text in enumerate(TALK)]
    yield _dialogue("dialogue", f"{two[0]} and {two[1]} talk", talk)


def in_a_recording(recording: bytes, transcript: str) -> Sample:
    """What is said in the voice of a recording."""
    text = "This is another sentence, in the voice of a recording that came with the request."
    references = (ReferenceAudio(recording, transcript),)
    return _sample("recording", "In the voice of a recording", text, references=references)


def _sample(name: str, title: str, *paragraphs: str, **fields: Any) -> Sample:
    request = SpeechRequest(
        name,
        "\n\n".join(paragraphs),
        sampling=SamplingParams(seed=SEED),
        long_text="split",
        **fields,
    )
    return Sample(name, title, request)


def _dialogue(name: str, title: str, lines: Sequence[Line]) -> Sample:
    return _sample(name, title, *(line.text for line in lines), dialogue=tuple(lines))


async def speak_all(backend: SmartBackend, names: Sequence[str], out: Path) -> list[Spoken]:
    """Everything, one after another, into wavs in `out`; `names` are voices that it has."""
    spoken: list[Spoken] = []
    for sample in (*in_default_voice(), *in_voices(names)):
        spoken.append(await speak(backend, sample, out, len(spoken) + 1))
    if len(names) > 1:
        # What one of them says, sent back as somebody's recording.
        own = _sample("own", "", *TALK, voice=names[-1])
        said = await speak(backend, own, out, 0)
        file = out / said.file
        sample = in_a_recording(file.read_bytes(), said.text)
        file.unlink()
        spoken.append(await speak(backend, sample, out, len(spoken) + 1))
    return spoken


async def speak(backend: SmartBackend, sample: Sample, out: Path, number: int) -> Spoken:
    """One of them."""
    path = out / f"{number:02}-{sample.name}.wav"
    output = AudioOutput("wav", speed=sample.request.speed)
    async with backend.speak(sample.request) as session:
        with (
            path.open("wb") as file,
            closing(AudioWriter(file, output, session.info.sample_rate_hz)) as writer,
        ):
            async for chunk in session:
                writer.write(chunk.samples)
    audio_s = session.stats.audio_s / output.speed
    spoken = Spoken(
        *(sample, path.name, session.text, audio_s, session.first_audio_s, session.total_s),
        session.stats.warnings,
    )
    if number:
        print(f"{path}: {spoken.figures}")
    return spoken


def page(told: str, spoken: Sequence[Spoken]) -> str:
    """HTML with all of them; `told` says of what machine and checkpoint they are."""
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Samples</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head><body><main>",
            f'<h1>Samples</h1><p class="figures">{escape(told)}</p>',
            *(_section(each) for each in spoken),
            "</main></body></html>\n",
        )
    )


def _section(spoken: Spoken) -> str:
    request = spoken.sample.request
    lines = request.dialogue or [Line(text) for text in request.text.split("\n\n")]
    texts = (f"{line.voice}: {line.text}" if line.voice else line.text for line in lines)
    title = escape(spoken.sample.title)
    warnings = "".join(f'<p class="figures">{escape(each)}</p>' for each in spoken.warnings)
    return (
        f"<section><h2>{title}</h2>"
        f'<audio controls preload="metadata" src="{spoken.file}" aria-label="{title}"></audio>'
        + "".join(f"<p>{escape(text)}</p>" for text in texts)
        + f'<p class="figures">{escape(spoken.figures)}</p>{warnings}</section>'
    )


async def make(backend: SmartBackend, names: Sequence[str], out: Path) -> None:
    """The wavs and the page."""
    out.mkdir(parents=True, exist_ok=True)
    async with backend:
        info = await backend.ready()
        spoken = await speak_all(backend, names, out)
        day = datetime.now().astimezone().date().isoformat()
        told = (
            f"{info.checkpoint}, {info.sample_rate_hz:,} Hz, on {info.device} in {info.precision} "
            f"({info.way}), threads: {info.num_threads}, {day}. RTF is time by length: 0.1 is ten "
            "times faster than it plays."
        )
    (out / PAGE).write_text(page(told, spoken), "utf-8")
    print(f"Open {out / PAGE} in a browser.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samples")
    parser.add_argument("--out", type=Path, default=Path("samples"))
    parser.add_argument("--model-dir", type=Path, help="another checkpoint than the shipped voice")
    arguments = parser.parse_args()
    logger.remove()
    settings = load_settings(model_dir=arguments.model_dir, metrics=False)
    backend = SmartBackend(settings)
    names = [voice.name for voice in backend.voices.list() if voice.is_shipped]
    asyncio.run(make(backend, names, arguments.out))


if __name__ == "__main__":
    main()
