"""The voice learns to follow a speaker more than it does: ``python -m training.demo_voice.follow
--readings DIR … --lines DIR --checkpoint FOLDER --out FOLDER``, on a GPU or, slowly, on the CPU.

Round by round it says lines behind recordings of `--readings` (`follow_readings.py`,
`named_readings.py`), each of its sentences the way it does by then, and learns what the checkpoint
it began with would say at each frame if it followed more (`guidance.py`); what it says without a
recording is to stay. The codec and its codes, and so every saved voice, stay what they are.
`--lines` is the teacher's folder of `teacher_files.py`.
"""

import argparse
import copy
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from backend.engine.engine import Engine
from backend.engine.prompt import Reference
from backend.engine.ways import settle
from backend.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.packed import tried_pool
from backend.native.compiler import compile_library
from backend.native.pool import NativePool
from training.demo_voice.codes import asked, frames_of
from training.demo_voice.guidance import Reader, Row, divergence, guided
from training.demo_voice.progress import Log, Progress
from training.demo_voice.recipe import FollowTraining, on_gpu
from training.demo_voice.strange import strange
from training.demo_voice.teacher_lines import LINES_FILE, load_lines

_PAUSE_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker's readings, each alone and the last all together: as they are, and made strange."""

    clear: tuple[Reference, ...]
    altered: tuple[Reference, ...]


@torch.inference_mode()
def encode_voice(codec: DAC, paths: Sequence[Path]) -> Voice:
    """The recordings of one speaker, encoded in one go, a pause between them."""
    frame, rate_hz = codec.config.frame_samples, codec.config.sample_rate_hz
    parts, places, texts = [], list[slice](), list[str]()
    width = 0
    for path in paths:
        samples, found_hz = soundfile.read(path, dtype="float32")
        if found_hz != rate_hz:
            raise ValueError(f"{path} has {found_hz} Hz where the codec has {rate_hz}")
        said, _, _ = path.with_suffix(".txt").read_text("utf-8").partition("\n\n")
        texts.append(" ".join(said.split()))
        pcm = torch.from_numpy(samples)
        pcm = F.pad(pcm, (0, -len(pcm) % frame))
        places.append(slice(width, width + len(pcm) // frame))
        width = places[-1].stop + _PAUSE_FRAMES
        parts.append(F.pad(pcm, (0, _PAUSE_FRAMES * frame)))
    places.append(slice(0, places[-1].stop))
    texts.append(" ".join(texts))
    device = next(codec.parameters()).device
    audio = torch.cat(parts)[None].to(device)

    def cut(audio: Tensor) -> tuple[Reference, ...]:
        codes = codec.encode(audio)[0].cpu()
        pairs = zip(texts, places, strict=True)
        return tuple(Reference(text, codes[:, place].clone()) for text, place in pairs)

    return Voice(cut(audio), cut(strange(audio)))


def read_voices(codec: DAC, folders: Sequence[Path]) -> list[Voice]:
    """Of the recordings NAME.wav, or NAME-1.wav, NAME-2.wav …, in each of `folders`."""
    voices = []
    for folder in folders:
        paths = sorted(folder.glob("*.wav"))
        for _, own in itertools.groupby(paths, lambda path: path.stem.partition("-")[0]):
            voices.append(encode_voice(codec, list(own)))
    return voices


def ask(
    plan: FollowTraining, voices: Sequence[Voice], lines: Sequence[str], rng: random.Random
) -> Row:
    """Sentences that are to be said behind a recording, or behind none."""
    texts = tuple(rng.choice(lines) for _ in range(plan.sentences))
    if rng.random() < plan.plain:
        return Row(None, None, texts)
    voice = rng.choice(voices)
    index = -1 if rng.random() < 0.5 else rng.randrange(len(voice.clear))
    heard = (voice.altered if rng.random() < plan.strange else voice.clear)[index]
    if rng.random() < plan.without_transcript:
        heard = replace(heard, text="")
    return Row(heard, voice.clear[-1], texts)


def say(engine: Engine, checkpoint: Checkpoint, rows: Sequence[Row], seed: int) -> list[Row]:
    """`rows` as the server would speak them; what comes to no end, and rows of it, are left out."""
    seeds = itertools.count(seed)
    sequences = [
        asked(checkpoint, text, next(seeds), [row.heard] if row.heard else [])
        for row in rows
        for text in row.texts
    ]
    spoken = zip(sequences, frames_of(engine, sequences), strict=True)
    said = []
    for row in rows:
        own = zip(row.texts, itertools.islice(spoken, len(row.texts)), strict=True)
        whole = [(text, made) for text, (each, made) in own if each.finish == "end" and len(made)]
        if whole:
            texts, frames = zip(*whole, strict=True)
            said.append(replace(row, texts=texts, said=frames))
    return said


def batches(rows: Sequence[Row], size: int, rng: random.Random) -> list[list[Row]]:
    """Rows of like length together, with a recording or without; in no order."""

    def length(row: Row) -> int:
        voice = 0 if row.known is None else row.known.codes.shape[1]
        return voice + sum(len(t) + len(s) for t, s in zip(row.texts, row.said, strict=True))

    found = []
    for has_voice in (True, False):
        alike = sorted((row for row in rows if (row.known is not None) == has_voice), key=length)
        found += [alike[i : i + size] for i in range(0, len(alike), size)]
    rng.shuffle(found)
    return found


def follow(
    plan: FollowTraining,
    pool: NativePool | None,
    checkpoint: Checkpoint,
    voices: Sequence[Voice],
    lines: Sequence[str],
    out: Path,
    begin_with: DualAR | None = None,
) -> None:
    """Let a copy of `checkpoint` learn as long as `plan` says, and write it to `out`. On a CPU
    `pool` says its sentences. `begin_with` has learned from `checkpoint` before, and goes on. What
    is written while it learns is all of what was learned, what is written last `plan.kept` less."""
    rng = random.Random(plan.seed)
    torch.manual_seed(plan.seed)
    guide = Reader(checkpoint.model.requires_grad_(False), checkpoint.tokenizer)
    model = (begin_with or copy.deepcopy(checkpoint.model)).requires_grad_(True)
    device = model.norm.weight.device
    learner = replace(guide, model=model)
    learned = replace(checkpoint, model=model)
    optimizer = torch.optim.AdamW(model.parameters(), plan.peak_lr, (0.9, 0.98), weight_decay=0.01)
    progress = Progress(plan.steps, plan.seconds, plan.warmup_steps)
    log = Log(out.with_suffix(".log"))
    for turn in itertools.count():
        save_checkpoint(out, learned, torch.bfloat16)
        speaker = load_checkpoint(out, device=device, dtype=torch.bfloat16, pool=pool)
        engine = Engine(speaker.model, plan.at_once)
        settle(engine, may_use_triton=device.type == "cuda", pool=pool)
        wanted_rows = [ask(plan, voices, lines, rng) for _ in range(plan.rows_a_round)]
        rows = say(engine, speaker, wanted_rows, turn * plan.rows_a_round * plan.sentences)
        del engine, speaker
        sums, steps, is_over = torch.zeros(2, device=device), 0, False
        for batch in batches(rows, plan.rows, rng):
            if is_over := not progress.next():
                break
            with torch.autocast(device.type, torch.bfloat16):
                wanted = guided(guide, batch, plan.strength)
                slow, fast = divergence(learner, batch, wanted)
            optimizer.zero_grad()
            torch.autograd.backward(slow + 2 * fast)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = progress.lr(plan.peak_lr)
            optimizer.step()
            sums += torch.stack((slow, fast)).detach()
            steps += 1
        if steps:
            log(
                round=turn,
                step=progress.step,
                sentences=sum(len(row.said) for row in rows),
                nats_slow_fast=[round(each, 3) for each in (sums / steps).tolist()],
                fraction=progress.fraction,
            )
        if is_over:
            break
    with torch.no_grad():
        for weight, before in zip(model.parameters(), guide.model.parameters(), strict=True):
            weight.lerp_(before, plan.kept)
    save_checkpoint(out, learned, torch.bfloat16)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--readings", type=Path, nargs="+", required=True, help="folders; one may be named twice"
    )
    parser.add_argument("--lines", type=Path, required=True, help="the teacher's folder")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--resume", type=Path, help="what a run that was cut short wrote")
    parser.add_argument("--minutes", type=float, help="instead of the recipe's seconds")
    parser.add_argument("--strength", type=float, help="instead of the recipe's")
    parser.add_argument("--peak-lr", type=float, help="instead of the recipe's")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = FollowTraining() if device == "cpu" else on_gpu()
    told = {
        "seconds": arguments.minutes and 60 * arguments.minutes,
        "strength": arguments.strength,
        "peak_lr": arguments.peak_lr,
    }
    plan = replace(plan, **{name: value for name, value in told.items() if value is not None})
    checkpoint = load_checkpoint(arguments.checkpoint, device=device)
    voices = read_voices(checkpoint.codec, arguments.readings)
    lines = [text for text, _ in load_lines(arguments.lines / LINES_FILE)]
    lines = [text for text in lines if len(text) <= plan.characters]
    pool = None
    if device == "cpu":
        with TemporaryDirectory() as compiled:
            pool = tried_pool(compile_library(Path(compiled)))
    before = load_checkpoint(arguments.resume, device=device).model if arguments.resume else None
    follow(plan, pool, checkpoint, voices, lines, arguments.out, before)
    print(f"checkpoint in {arguments.out}")


if __name__ == "__main__":
    main()
