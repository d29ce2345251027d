"""Everything a worker holds: read from disk, put on the device, tried once."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from loguru import logger

from backend.codec.reference import ReferenceEncoder
from backend.codec.stream import FIRST_FRAMES, FrameDecoder
from backend.core import EngineInfo
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sampling, Sequence
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.worker.device import Place, resolve, use_threads
from backend.worker.memory import cache_budget_bytes, resident_mb
from backend.worker.messages import WorkerConfig


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint on its device with what speaks it."""

    checkpoint: Checkpoint
    place: Place
    engine: Engine
    references: ReferenceEncoder
    info: EngineInfo


def load(config: WorkerConfig) -> Loaded:
    """Load what `config` names; `BadCheckpoint` or `BadSetting` say what is wrong with it."""
    began_s = time.perf_counter()
    place = resolve(config.device, config.precision)
    threads = use_threads(config.num_threads)
    logger.info(
        "On {} as {} ({}), {} threads.", place.device, place.precision, place.reason, threads
    )
    # The codec stays in float32: it is small beside its sound, and 16 bits can be heard.
    checkpoint = load_checkpoint(
        Path(config.model_dir),
        device=place.device,
        dtype=place.dtype,
        codec_dtype=torch.float32,
    )
    engine = Engine(checkpoint.model, config.max_batch, cache_budget_bytes(place.device))
    _warm_up(checkpoint, engine)
    card, codec = checkpoint.card, checkpoint.codec_config
    info = EngineInfo(
        engine="shoal",
        checkpoint=card.name,
        device=str(place.device),
        precision=place.precision,
        sample_rate_hz=codec.sample_rate_hz,
        frame_samples=codec.frame_samples,
        num_codebooks=codec.num_codebooks,
        parameters=checkpoint.parameters,
        weight_bytes=checkpoint.weight_bytes,
        context_tokens=checkpoint.config.max_seq_len,
        max_segment_characters=card.max_segment_characters,
        max_reference_s=card.max_reference_s,
        languages=card.languages,
        torch_version=str(torch.__version__),
        pid=os.getpid(),
        memory_mb=resident_mb(),
        load_s=time.perf_counter() - began_s,
    )
    references = ReferenceEncoder(checkpoint.codec, card.max_reference_s)
    return Loaded(checkpoint, place, engine, references, info)


def _warm_up(checkpoint: Checkpoint, engine: Engine) -> None:
    """Speak a few frames that nobody hears: the first use of a kernel or a buffer is slow."""
    prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, "Hello.")
    sampling = Sampling(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=0)
    engine.add(Sequence(prompt, sampling, FIRST_FRAMES, checkpoint.config.max_seq_len))
    decoder = FrameDecoder(checkpoint.codec)
    while not engine.is_idle:
        for progress in engine.step().progress:
            if progress.error is not None:
                raise progress.error
            if progress.frame is not None:
                decoder.push(progress.frame)
    decoder.flush()
