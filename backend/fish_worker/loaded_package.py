"""Everything the fish-speech worker holds: read by the package, put on the device, tried once."""

import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from loguru import logger

from backend.core import MIB, EngineInfo, SamplingParams
from backend.errors import BadCheckpoint
from backend.fish_worker.convert import official_folder
from backend.fish_worker.package import NAME, load_codec, load_transformer, positions_for
from backend.fish_worker.voice import Voice
from backend.hardware.need import CheckpointShape
from backend.model.config import codec_fingerprint
from backend.model.tokenizer import Tokenizer
from backend.worker.device import Place, resolve, use_threads
from backend.worker.messages import WorkerConfig
from backend.worker.process_memory import give_back_unused, used_bytes

_TRIAL_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint in the package's classes, with what our side needs to know of it."""

    voice: Voice
    shape: CheckpointShape
    tokenizer: Tokenizer
    """Ours: it makes the same ids, which are counted before the package is asked to speak."""
    place: Place
    info: EngineInfo
    weight_bytes_per_frame: int
    """Read for each frame: the package multiplies by every row of the vocabulary."""

    def clear_caches(self) -> int:
        """Give unused memory back; the bytes that became free. The package remembers no voices."""
        before = used_bytes(self.place.device)
        gc.collect()
        give_back_unused(self.place.device)
        return max(0, before - used_bytes(self.place.device))


def load(config: WorkerConfig, converted: Path) -> Loaded:
    """Load what `config` names, converted into a folder of `converted` if it has to be.

    `BadCheckpoint` or `BadSetting` say what is wrong with it.
    """
    began_s = time.perf_counter()
    place = resolve(config.device, config.precision, config.may_fall_back)
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)  # the package asks for "the" GPU's memory
    threads = use_threads(config.num_threads)
    logger.info(
        "On {} as {} ({}), {} threads.", place.device, place.precision, place.reason, threads
    )
    source = Path(config.model_dir)
    shape, tokenizer = CheckpointShape.from_folder(source), Tokenizer.from_folder(source)
    folder = official_folder(source, converted)
    transformer = load_transformer(folder, positions_for(shape.model.max_seq_len))
    codec = load_codec(folder, shape.codec if (folder / "codec.json").exists() else None)
    voice = Voice(transformer, codec, place)
    _try(voice)
    cache_bytes = voice.positions * shape.model.kv_bytes_per_frame(place.dtype.itemsize)
    weight_bytes = sum(weight.nbytes for weight in voice.weights)
    info = EngineInfo(
        engine=NAME,
        checkpoint=shape.name,
        device=str(place.device),
        precision=place.precision,
        sample_rate_hz=shape.codec.sample_rate_hz,
        frame_samples=shape.codec.frame_samples,
        num_codebooks=shape.codec.num_codebooks,
        parameters=sum(weight.numel() for weight in voice.weights),
        weight_bytes=weight_bytes,
        context_tokens=shape.model.max_seq_len,
        max_segment_characters=shape.info.max_segment_characters,
        max_reference_s=shape.info.max_reference_s,
        languages=shape.info.languages,
        torch_version=str(torch.__version__),
        pid=os.getpid(),
        memory_mb=used_bytes(place.device) / MIB,
        load_s=time.perf_counter() - began_s,
        unquantized_weight_bytes=weight_bytes,
        num_threads=threads,
        cpus=config.cpus,
        cache_limit_bytes=cache_bytes,
        cuda_available=torch.cuda.is_available(),
        codec_id=codec_fingerprint(source),
        has_default_voice=shape.info.has_default_voice,
    )
    per_frame = _weights_read_per_frame(shape) * place.dtype.itemsize
    return Loaded(voice, shape, tokenizer, place, info, per_frame)


def _weights_read_per_frame(shape: CheckpointShape) -> int:
    """As ours, with the whole vocabulary in the head and one more step of the fast transformer."""
    model = shape.model
    one_more = model.fast.n_layer * model.fast.layer_parameters
    one_more += model.codebook_size * model.fast.dim
    return model.weights_read_per_frame(model.vocab_size) + one_more


def _try(voice: Voice) -> None:
    """Speak a few frames that nobody hears: the first use of a kernel or a buffer is slow."""
    try:
        spoken = voice.generate("Hello.", (), SamplingParams(), _TRIAL_TOKENS, lambda: None)
        voice.decode(spoken.codes)
    except (IndexError, torch.AcceleratorError) as error:
        # It may choose any row of the vocabulary, and looks the code up that would belong to it.
        raise BadCheckpoint(
            f"{NAME} cannot speak this checkpoint, whose weights let it choose tokens that are no "
            f"speech, as random ones do ({type(error).__name__}: {error})"
        ) from error
