"""`shoal tune`: a bar while it measures, then the table, the winner and why."""

import asyncio
import json

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from backend.hardware.detect import detect
from backend.hardware.measurements import Measurements
from backend.hardware.need import CheckpointShape
from backend.hardware.readings import read_machine
from backend.settings import Settings
from backend.tuning.told import sentences, tuning_json, tuning_table
from backend.tuning.tuning import Tuning

_TICK_S = 0.2
_BUSY_SAMPLE_S, _BUSY_PCT = 0.5, 20.0
"""Where other programs take more of the CPU, the figures say less."""


def tune_here(settings: Settings, seconds: float, as_json: bool, stderr: Console) -> bool:
    """Measure, keep and tell it; whether anything was measured that can be chosen.

    Raises what `Tuning` and its `save` raise. `KeyboardInterrupt` leaves what was kept as it was.
    """
    shape = CheckpointShape.from_folder(settings.checkpoint_dir)
    tuning = Tuning(settings, detect(read_machine()), shape, seconds)
    busy_pct = psutil.cpu_percent(_BUSY_SAMPLE_S)
    asyncio.run(_measure(tuning, stderr))
    is_chosen = tuning.verdict() is not None
    if is_chosen:
        tuning.save()
    file = str(Measurements(settings.data_dir).file) if is_chosen else None
    if as_json:
        told = tuning_json(tuning) | {"cpu_percent_before": busy_pct, "kept_in": file}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return is_chosen
    console = Console()
    console.print(tuning_table(tuning))
    for sentence in sentences(tuning):
        console.print(sentence, markup=False, highlight=False)
    if busy_pct > _BUSY_PCT:
        busy = (
            f"Other programs took {busy_pct:.0f} % of the CPU before it began: on a quiet machine "
        )
        console.print(busy + "all is faster, and another may win.", markup=False, highlight=False)
    if file:
        kept = f"Kept in {file}; plans go by it from now on. Deleting it undoes that."
        console.print(kept, markup=False, highlight=False, soft_wrap=True)
    return is_chosen


async def _measure(tuning: Tuning, stderr: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("", total=tuning.seconds)
        while (setup := tuning.next()) is not None:
            progress.update(task, description=str(setup))
            if not stderr.is_terminal:
                stderr.print(f"measuring {setup}", markup=False, highlight=False, soft_wrap=True)
            ticking = asyncio.create_task(_tick(progress, task, tuning), name="progress")
            try:
                row = await tuning.measure(setup)
            finally:
                ticking.cancel()
            told = f"{row.setup}: {row.figures or row.reason}"
            progress.console.print(told, markup=False, highlight=False, soft_wrap=True)


async def _tick(progress: Progress, task: TaskID, tuning: Tuning) -> None:
    while True:
        progress.update(task, completed=tuning.elapsed_s)
        await asyncio.sleep(_TICK_S)
