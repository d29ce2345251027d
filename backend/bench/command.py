"""`shoal bench`: what is measured in which order, and what is said meanwhile."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.bench.messages import RANDOM_PREFIX
from backend.bench.report import Report
from backend.bench.run import DEMO, WORKER, Bench, Tell, text_of
from backend.bench.subject import UPSTREAM, WEIGHTS, Held, Size
from backend.errors import BadSetting, ShoalError
from backend.fish_worker.install import add_engine, run_command
from backend.settings import SHIPPED_VOICE_DIR, Settings, load_settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    checkpoint: Path | None = None
    """None is a random one of openaudio-s1-mini's size."""
    is_demo: bool = False
    device: str | None = None
    has_upstream: bool = True
    is_quick: bool = False


def run(asked: Asked, tell: Tell) -> Report:
    """Measure what is asked for; `ShoalError` where there is nothing to measure."""
    settings = load_settings()
    folder = _folder(asked, settings, tell)
    held, troubles = _held(asked, folder)
    if not held:
        raise BadSetting(" ".join(troubles.values()))
    upstream = None
    if asked.has_upstream:
        try:
            upstream = add_engine("fish-speech", settings.data_dir, tell)
        except ShoalError as error:
            troubles[UPSTREAM] = str(error)
    size = Size().quick() if asked.is_quick else Size()
    size = size.within(held[0].deployment.shape.model.max_seq_len)
    bench = Bench(held, upstream, size, tell)
    bench.findings.troubles |= troubles
    began_s = time.monotonic()
    asyncio.run(_measure(bench, asked, held))
    bench.findings.about["seconds"] = time.monotonic() - began_s
    return Report(bench.findings, size)


def _folder(asked: Asked, settings: Settings, tell: Tell) -> Path:
    if asked.is_demo:
        return SHIPPED_VOICE_DIR
    if asked.checkpoint is not None:
        return asked.checkpoint
    kept = settings.data_dir.absolute() / "bench" / "s1-mini"
    if not kept.is_dir():
        tell(f"making a random checkpoint of openaudio-s1-mini's size in {kept}: 2.2 GB, once")
        _make_random(settings, kept)
    return kept


def _make_random(settings: Settings, folder: Path) -> None:
    """It appears whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="unfinished-") as scratch:
            made = Path(scratch) / folder.name
            module = ("-P", "-m", "backend.bench.random_checkpoint")
            run_command((str(settings.worker_python), *module, str(made)), lambda _: None)
            made.rename(folder)
    except OSError as error:
        raise BadSetting(f"{folder} cannot be written: {error.strerror or error}.") from error


def _held(asked: Asked, folder: Path) -> tuple[list[Held], dict[str, str]]:
    """The ways of holding the weights that this machine has room for; why it has none for others.

    A voice as small as the shipped one may be spoken in fp32, which others are too large for.
    """
    held: list[Held] = []
    troubles: dict[str, str] = {}
    for name in WEIGHTS:
        if name == "fp32" and not asked.is_demo:
            continue
        try:
            held.append(Held.look(name, folder, asked.device))
        except ShoalError as error:
            troubles[name] = str(error)
    return held, troubles


async def _measure(bench: Bench, asked: Asked, held: Sequence[Held]) -> None:
    shipped = Held.look("", SHIPPED_VOICE_DIR, asked.device)
    async with bench:
        await bench.engine()
        if asked.is_demo:
            bench.findings.best = shipped.name  # as it ships, whatever else is faster
        best = next((each for each in held if each.name == bench.findings.best), None)
        if best is not None:
            await bench.parts(best.name)
            is_random = best.deployment.shape.name.startswith(RANDOM_PREFIX)
            await bench.lives(best, WORKER, text_of(is_random), encodes=True)
        if not asked.is_demo:
            await bench.lives(shipped, DEMO, text_of(is_random=False), encodes=False)
