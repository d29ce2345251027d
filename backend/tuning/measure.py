"""One setup, measured: a worker of its own, from its start to its end."""

from collections.abc import Mapping, Sequence

from backend.core import EngineInfo, SamplingParams, SpeechStats
from backend.errors import EngineFailed
from backend.hardware.measured import REASON_CHARACTERS, Figures
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Speak
from backend.worker.supervisor import supervised

_SAMPLING = SamplingParams(seed=1)
_RUNS = 5
"""Times that the sentence is spoken, the fastest counts: other programs only make it slower."""
_ENOUGH_S = 2.0
"""Of speaking: after that it is not spoken again."""
_GRACE_S = 1.0
"""For the worker to leave by itself: somebody may wait for the cores."""


async def measure(
    command: Sequence[str], environment: Mapping[str, str], start_timeout_s: float, sentence: str
) -> Figures:
    """How the worker that `command` starts says `sentence`; it has ended when this returns or
    raises.

    Raises `EngineDown` where it does not start or dies, and what its `Failed` says. Cancelling it
    ends the worker.
    """
    patience = Patience(
        start_timeout_s=start_timeout_s, shutdown_grace_s=_GRACE_S, start_attempts=1
    )
    worker = supervised(command, patience, environment)
    worker.start()
    try:
        info = await worker.ready()
        best = await _fastest(worker, sentence)
        way = worker.way_state
        worker.loaded()
        assert way is not None
        return _figures(best, info, way.name, way.detail)
    finally:
        await worker.close("it is measured")


async def _fastest(worker: WorkerClient, sentence: str) -> SpeechStats:
    runs: list[SpeechStats] = []
    while len(runs) < _RUNS and sum(run.total_s for run in runs) < _ENOUGH_S:
        speak = Speak(f"tune-{len(runs)}", sentence, _SAMPLING)
        done = await worker.speak(speak, lambda _: None)
        if not (done.stats.frames and done.stats.audio_s and done.stats.decode_s):
            raise EngineFailed("It said nothing.")
        runs.append(done.stats)
    return min(runs, key=lambda run: run.total_s / run.audio_s)


def _figures(stats: SpeechStats, info: EngineInfo, way: str, way_detail: str) -> Figures:
    codec_s = max(0.0, stats.total_s - stats.prefill_s - stats.decode_s)
    kept = None if info.quality_cost is None else round(info.quality_cost.greedy_agreement, 4)
    return Figures(
        way=way,
        way_detail=way_detail[:REASON_CHARACTERS],
        codec_precision=info.codec_precision,
        load_s=round(info.load_s, 2),
        prefill_s=round(stats.prefill_s, 4),
        first_audio_s=round(stats.first_audio_s, 4),
        frames_per_s=round(stats.frames_per_s, 2),
        codec_ms=round(1000 * codec_s / stats.frames, 2),
        rtf=round(stats.total_s / stats.audio_s, 4),
        peak_mb=round(stats.peak_memory_mb, 1),
        kept_codes=kept,
    )
