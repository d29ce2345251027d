"""Everything a worker holds: read from disk, put on the device, tried once."""

import gc
import math
import os
import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence as ManyOf
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from loguru import logger

from backend.codec.cpu_way import NATIVE, read_decoder_
from backend.codec.one_by_one import OneByOne
from backend.codec.pieces import FIRST_FRAMES
from backend.codec.slots import SlotDecoder
from backend.codec.stage import CodecStage
from backend.codec.way import Way, take_fastest_, ways
from backend.core import MIB, EngineInfo, QualityCost, SamplingParams
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence
from backend.engine.ways import Settled, settle
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.config import DECODE_FRAMES, STAGE_FRAMES, codec_part
from backend.model.dac import DAC
from backend.model.packed import tried_pool
from backend.native.compiler import CannotCompile, compile_library
from backend.native.pool import NativePool
from backend.worker.device import Place, resolve, use_threads
from backend.worker.messages import WorkerConfig
from backend.worker.process_memory import cache_budget_bytes, give_back_unused, used_bytes
from backend.worker.trials import Trials, code_fingerprint

_TRIAL_FRAMES = 3 * FIRST_FRAMES
"""The codec's first two pieces."""
_TIMED_FRAMES = 2 * FIRST_FRAMES
"""Those of the second piece: by then the transformer is warm."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint on its device with what speaks it."""

    checkpoint: Checkpoint
    place: Place
    engine: Engine
    stage: CodecStage
    """What decodes the frames that the engine makes."""
    info: EngineInfo

    def clear_caches(self) -> int:
        """Give unused memory back; the bytes that became free."""
        before = used_bytes(self.place.device)
        self.engine.forget_voices()
        gc.collect()
        give_back_unused(self.place.device)
        return max(0, before - used_bytes(self.place.device))


Tell = Callable[[str], None]
"""Takes what is being done, in words for a user after "it is"."""


def load(config: WorkerConfig, tell: Tell = lambda doing: None) -> Loaded:
    """Load what `config` names; `BadCheckpoint` or `BadSetting` say what is wrong with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        return _load(config, Path(config.compile_dir or scratch), tell)


def _load(config: WorkerConfig, compile_dir: Path, tell: Tell) -> Loaded:
    began_s = time.perf_counter()
    place = resolve(config.device, config.precision, config.may_fall_back)
    threads = use_threads(config.num_threads)
    logger.info(
        "On {} as {} ({}), {} threads.", place.device, place.precision, place.reason, threads
    )
    codec_device = torch.device("cpu") if config.codec_on_cpu else place.device
    library = _compiled(config, codec_device, compile_dir)
    pool = _pool_of(library) if place.device.type == "cpu" else None
    checkpoint = _read(config, place, pool, tell, codec_in_parts=codec_device.type == "cpu")
    tell("trying how it speaks")
    if checkpoint.quantization != "none":
        logger.info(_quantized(checkpoint))
    cache_bytes = (
        cache_budget_bytes(place.device)
        if config.cache_limit_mb is None
        else config.cache_limit_mb * MIB
    )
    engine = Engine(checkpoint.model, config.max_batch, cache_bytes)
    settled = Settled("eager", "")
    trials = Trials(compile_dir)
    tried = f"{_kernels(place.device, library)} {checkpoint.fingerprint}"
    frames = f"{tried} frames {place.precision} {checkpoint.quantization}"
    sound = f"{_kernels(codec_device, library)} {checkpoint.fingerprint} codec"
    codec_ways = NATIVE if checkpoint.stored_codec is not None else ways(codec_device)

    def try_codec() -> Way:
        use_threads(threads)  # torch counts each thread's apart
        return _codec_way(checkpoint, codec_ways, library, trials.find(sound))

    with ThreadPoolExecutor(1, "codec") as beside:
        # On a CPU both trials are one thread's work for the most part.
        trying = beside.submit(try_codec) if pool is not None else None
        if pool is not None or (place.device.type == "cuda" and config.has_room_for_graphs):
            settled = settle(
                engine,
                may_use_triton=config.try_compile,
                pool=pool,
                agreed_before=lambda way: trials.find(f"{frames} {way}") is not None,
            )
            logger.info("{}", settled.detail)
        codec_way = try_codec() if trying is None else trying.result()
    if settled.name != "eager":
        trials.note(f"{frames} {settled.name}", 1)
    if replace(codec_way, snr_db=math.inf) in codec_ways[:1]:
        trials.note(sound, codec_way.snr_db)
    logger.info("The codec computes in {}.", codec_way)
    stage = stage_of(checkpoint.codec, config.max_batch, config.decode_frames)
    trial_s = _warm_up(checkpoint, engine, stage)
    give_back_unused(place.device)  # holes that loading and the trial left
    said, codec = checkpoint.info, checkpoint.codec_config
    info = EngineInfo(
        engine="shoal",
        checkpoint=said.name,
        device=str(place.device),
        precision=place.precision,
        sample_rate_hz=codec.sample_rate_hz,
        frame_samples=codec.frame_samples,
        num_codebooks=codec.num_codebooks,
        parameters=checkpoint.parameters,
        weight_bytes=checkpoint.weight_bytes,
        context_tokens=checkpoint.config.max_seq_len,
        max_segment_characters=said.max_segment_characters,
        max_reference_s=said.max_reference_s,
        languages=said.languages,
        torch_version=str(torch.__version__),
        pid=os.getpid(),
        memory_mb=used_bytes(place.device) / MIB,
        load_s=time.perf_counter() - began_s,
        num_threads=threads,
        cpus=config.cpus,
        cache_limit_bytes=cache_bytes,
        cuda_available=torch.cuda.is_available(),
        quantization=checkpoint.quantization,
        unquantized_weight_bytes=checkpoint.unquantized_weight_bytes,
        quality_cost=checkpoint.quality_cost,
        codec_id=codec_part(checkpoint.fingerprint),
        trial_rtf=trial_s * codec.sample_rate_hz / (_TIMED_FRAMES * codec.frame_samples),
        has_default_voice=said.has_default_voice,
        codec_precision=codec_way.precision,
        way=settled.name,
        way_detail=settled.detail,
    )
    return Loaded(checkpoint, place, engine, stage, info)


def _read(
    config: WorkerConfig,
    place: Place,
    pool: NativePool | None,
    tell: Tell,
    *,
    codec_in_parts: bool,
) -> Checkpoint:
    """The checkpoint, its weights held as `config` says, or in full where it leaves that open."""
    read = partial(
        load_checkpoint,
        Path(config.model_dir),
        device=place.device,
        dtype=place.dtype,
        # The codec's encoder stays in float32: codes of a voice are the same on every machine.
        codec_dtype=torch.float32,
        calibration_samples=config.calibration_samples,
        pool=pool,
        packed_dir=Path(config.compile_dir) if config.compile_dir else None,
        codec_in_parts=codec_in_parts,
        on_packed=_Packing(tell),
    )
    if config.least_kept and pool is None:
        return read(quantization="none")
    checkpoint = read(quantization=config.quantization)
    cost = checkpoint.quality_cost
    if cost is None or cost.greedy_agreement >= config.least_kept:
        return checkpoint
    logger.warning(
        "Weights are held in full: {} keeps only {:.1%} of the most probable codes.",
        config.quantization,
        cost.greedy_agreement,
    )
    return read(quantization="none")


class _Packing:
    """Tells at each quarter how far packing has come."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._quarters = tell, -1

    def __call__(self, share: float) -> None:
        if (quarters := int(4 * share)) != self._quarters:
            self._quarters = quarters
            logger.info("Weights are packed for this CPU, once: {:.0%}.", quarters / 4)
            self._tell(f"packing its weights for this CPU, once: {quarters / 4:.0%}")


def _compiled(config: WorkerConfig, device: torch.device, folder: Path) -> Path | None:
    """The library of the kernels in C, for a CPU; None where it is not wanted, or cannot be had."""
    if device.type != "cpu" or not config.try_compile:
        return None
    try:
        return compile_library(folder)
    except CannotCompile as error:
        logger.warning("Speech is made slowly: there are no kernels in C: {}", error)
        return None


def _pool_of(library: Path | None) -> NativePool | None:
    """The threads that make frames with it."""
    if library is None:
        return None
    try:
        return tried_pool(library)
    except (CannotCompile, OSError) as error:
        logger.warning("Frames are made slowly: {}", error)
        return None


def _kernels(device: torch.device, library: Path | None) -> str:
    """A name for what computes on `device`."""
    if device.type != "cuda":
        return str(library and library.stem)
    return f"{torch.cuda.get_device_name(device)} {torch.__version__} {code_fingerprint()}"


def _codec_way(
    checkpoint: Checkpoint, on_gpu: ManyOf[Way], library: Path | None, known_snr_db: float | None
) -> Way:
    """How its decoder computes from now on."""
    if checkpoint.stored_codec is None:
        return take_fastest_(checkpoint.codec, on_gpu, known_snr_db)
    return read_decoder_(checkpoint.stored_codec, library, known_snr_db)


def stage_of(codec: DAC, max_batch: int, most_frames: int | None = None) -> CodecStage:
    """What decodes the frames of as many sequences as are spoken at once, its calls made ready.

    It decodes at most `most_frames` of one in one go.
    """
    if next(codec.parameters()).device.type != "cuda":
        return CodecStage(OneByOne(codec, most_frames or DECODE_FRAMES))
    decoder = SlotDecoder(codec, max_batch, most_frames or STAGE_FRAMES)
    for _ in decoder.sizes:
        decoder.prepare()  # one row's calls; the others follow when there is nothing to do
    return CodecStage(decoder)


def _quantized(checkpoint: Checkpoint) -> str:
    """What quantization saved and cost, for the log."""
    parts = [
        f"Weights held in {checkpoint.quantization}: {checkpoint.weight_bytes / MIB:.0f} MiB "
        f"instead of {checkpoint.unquantized_weight_bytes / MIB:.0f}."
    ]
    if checkpoint.quality_cost is not None:
        parts.append(told_cost(checkpoint.quality_cost))
    return " ".join((*parts, *checkpoint.quantization_notes))


def told_cost(cost: QualityCost) -> str:
    """What quantization cost, for the log."""
    return (
        f"On {cost.samples} calibration samples {cost.greedy_agreement:.1%} of the most "
        f"probable codes stayed the same (KL divergence {cost.kl_divergence:.4f} nats)."
    )


def _warm_up(checkpoint: Checkpoint, engine: Engine, stage: CodecStage) -> float:
    """Speak a few frames that nobody hears: the first use of a kernel or a buffer is slow.

    Seconds that the last `_TIMED_FRAMES` of them took.
    """
    prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, "Hello.")
    sampling = SamplingParams(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=0)
    sequence = Sequence(prompt, sampling, _TRIAL_FRAMES, checkpoint.config.max_seq_len)
    engine.add(sequence)
    frames, began_s = 0, time.perf_counter()
    while not (engine.is_idle and stage.is_idle):
        for progress in engine.step():
            if progress.error is not None:
                raise progress.error
            if progress.frame is not None:
                stage.push(sequence, progress.frame)
                frames += 1
            if progress.finish is not None:
                stage.end(sequence)
        for heard in stage.heard(wait=True):
            if heard.error is not None:
                raise heard.error
            if heard.samples is not None and frames == _TRIAL_FRAMES - _TIMED_FRAMES:
                began_s = time.perf_counter()
    return time.perf_counter() - began_s
