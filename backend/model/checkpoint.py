"""Read and write checkpoint folders. Loading runs no code from them.

Two layouts are read. The official one (`openaudio-s1-mini`): `config.json`, `model.pth`,
`codec.pth`. Our own: `config.json`, `codec.json`, `shoal.json`, `model.safetensors`,
`codec.safetensors`. Both hold `tokenizer.tiktoken` and `special_tokens.json`; an official folder
may hold our two JSON files as well.
"""

import copy
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from loguru import logger
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from backend.core import QualityCost, Quantization
from backend.errors import BadCheckpoint
from backend.model.calibration import calibrate_, calibrating
from backend.model.config import (
    CheckpointInfo,
    CodecConfig,
    DualARConfig,
    checkpoint_fingerprint,
    packed_fingerprint,
    read_json,
)
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.layers import lay_out_for_cpu_, stored_bytes
from backend.model.packed import compute_in_float32_, pack_head_, pack_linears_, refusal
from backend.model.packed_file import (
    packed_path,
    read_cost,
    read_packed,
    write_cost,
    write_packed,
)
from backend.model.quantize import Bits, held_in, notes, quantize_head_, quantize_linears_
from backend.model.stored_codec import StoredCodec
from backend.model.tokenizer import Tokenizer
from backend.model.weights import (
    Weights,
    codec_weights,
    fill_,
    mismatches,
    open_weights,
    transformer_weights,
)
from backend.native.pool import NativePool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint, ready to generate."""

    info: CheckpointInfo
    config: DualARConfig
    codec_config: CodecConfig
    tokenizer: Tokenizer
    model: DualAR
    codec: DAC
    quantization: Quantization = "none"
    """How the transformer's matrices are held; the codec and all else stay as they are."""
    quality_cost: QualityCost | None = None
    """What that changed, where calibration samples measured it."""
    fingerprint: str = ""
    """As `checkpoint_fingerprint` tells it of the files."""
    stored_codec: StoredCodec | None = None
    """Reads the parts of the codec that are not in memory; None where all are."""
    measuring: Iterator[QualityCost | None] | None = None
    """Where `quality_cost` takes long and is not known yet: to be asked step by step, while nobody
    wants the model; the last is the cost."""

    @property
    def parameters(self) -> int:
        """Weights of transformer and codec, however they are held."""
        return self.config.parameters + self.codec_config.parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes those weights take in memory, the head's copies of its legal rows not counted."""
        head = self.model.legal_head.nbytes
        if self.model.head is not None:
            head += stored_bytes(self.model.head)
        return stored_bytes(self.model) - head + stored_bytes(self.codec)

    @property
    def unquantized_weight_bytes(self) -> int:
        """What they would take without quantization."""
        element_bytes = self.model.embeddings.weight.element_size()
        return self.config.parameters * element_bytes + stored_bytes(self.codec)

    @property
    def quantization_notes(self) -> tuple[str, ...]:
        """Where the weights are not held, or not multiplied, as `quantization` promises."""
        return tuple(notes(self.model, self.quantization))


class _Unfilled(TorchFunctionMode):
    """Leaves embeddings on the meta device alone: filling them there with random numbers imports
    the whole of torch's compiler, 70 MB and a second for nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def load_checkpoint(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    codec_dtype: torch.dtype | None = None,
    quantization: Quantization = "none",
    calibration_samples: int = 0,
    pool: NativePool | None = None,
    packed_dir: Path | None = None,
    codec_in_parts: bool = False,
    on_packed: Callable[[float], None] = lambda share: None,
) -> Checkpoint:
    """Load the checkpoint in `folder`; BadCheckpoint says everything that is wrong with it.

    Weights are read one by one, and quantized layer by layer. With `calibration_samples` texts what
    is in few bits is fitted to what is said, and the cost is measured, which reads the slow layers
    twice. With a `pool` the transformer's matrices are held as its kernels read them, and
    `packed_dir` keeps for the next start what that cost, and a quantized one as it was fitted. A
    large one, to which nothing is fitted, is kept as it was packed, and its cost measured later
    (`Checkpoint.measuring`). With `codec_in_parts` the codec stays in its
    file, its code books apart, until `stored_codec` is asked for it; so it does on a CPU only.
    `on_packed` is told which share is packed where that takes long.
    """
    if not folder.is_dir():
        raise BadCheckpoint(f"there is no checkpoint folder {folder}")
    config = DualARConfig.from_json(read_json(folder / "config.json"))
    codec_file, info_file = folder / "codec.json", folder / "shoal.json"
    codec_config = CodecConfig()
    if codec_file.exists():
        codec_config = CodecConfig.from_json(read_json(codec_file))
    info = CheckpointInfo(name=folder.name)
    if info_file.exists():
        info = CheckpointInfo.from_json(read_json(info_file))
    tokenizer = Tokenizer.from_folder(folder)
    _check_sizes(config, codec_config, tokenizer)

    with torch.device("meta"), _Unfilled():
        model = DualAR(config, tokenizer.semantic_begin_id, tokenizer.im_end_id)
        codec = DAC(codec_config)
    weights = transformer_weights(open_weights(folder, "model"), config)
    _check_weights("model", model, weights)
    sounds = codec_weights(open_weights(folder, "codec"))
    _check_weights("codec", codec, sounds)
    if pool is not None and (reason := refusal(config)):
        logger.warning("The kernels in C are not for this checkpoint: {}", reason)
        pool = None
    fingerprint = checkpoint_fingerprint(folder)
    is_large = not config.is_small and config.tie_word_embeddings
    # What is fitted is kept for the next start, as what is large is: of tied embeddings only.
    is_fitted = pool is not None and config.tie_word_embeddings and not is_large
    path = kept = cost = None
    if pool is not None and packed_dir is not None and quantization != "none":
        name = packed_fingerprint(folder, fingerprint)
        path = packed_path(packed_dir, name, dtype, quantization)
        if config.tie_word_embeddings:
            kept = read_packed(model, path, quantization, pool)
            if kept is None and is_large:
                packing = _packed_parts(model, weights, dtype, quantization, pool, on_packed)
                if write_packed(packing, 2 * len(model.state_dict()), path):
                    kept = read_packed(model, path, quantization, pool)
    if kept is None:
        filling = _filled(model, weights, torch.device(device), dtype, quantization, pool)
        deque(filling, maxlen=0)
    else:
        model = kept
    measuring = None
    if path is not None and (kept is not None or not is_fitted):
        cost = read_cost(path)  # of one that is fitted it is that of what was kept
    if cost is None and quantization != "none" and calibration_samples:
        asked = (model, tokenizer, weights, calibration_samples, info.languages)
        if path is not None and is_large:  # of what is packed nothing is fitted to what is said
            measuring = _measuring(calibrating(*asked), path)
        else:
            cost = calibrate_(*asked, is_small=is_fitted)
            if path is not None:
                write_cost(cost, path)
                if is_fitted:
                    write_packed([model.state_dict()], len(model.state_dict()), path)
    stored_codec = None
    if codec_in_parts:
        stored_codec = StoredCodec(codec, sounds)
    else:
        fill_(codec, "", sounds, device, codec_dtype or dtype)
    return Checkpoint(
        info,
        config,
        codec_config,
        tokenizer,
        model.eval(),
        codec.eval(),
        quantization,
        cost,
        fingerprint,
        stored_codec,
        measuring,
    )


def _measuring(
    calibrating: Iterator[QualityCost | None], path: Path
) -> Iterator[QualityCost | None]:
    """The cost that comes last is kept for the next start."""
    for cost in calibrating:
        if cost is not None:
            write_cost(cost, path)
        yield cost


def _packed_parts(
    empty: DualAR,
    weights: Weights,
    dtype: torch.dtype,
    quantization: Quantization,
    pool: NativePool,
    on_packed: Callable[[float], None],
) -> Iterator[dict[str, Tensor]]:
    """What a packed model like `empty` holds, part by part; each goes as the next is asked for."""
    model, count = copy.deepcopy(empty), len(_parts(empty)) + 1  # the head is one, too
    filling = _filled(model, weights, torch.device("cpu"), dtype, quantization, pool)
    for index, name in enumerate(filling):
        on_packed(index / count)
        part = model.get_submodule(name)
        yield {f"{name}.{key}": tensor for key, tensor in part.state_dict().items()}
        part.to("meta")


def _filled(
    model: DualAR,
    weights: Weights,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization,
    pool: NativePool | None,
) -> Iterator[str]:
    """Part by part, each brought into its final form: their names, as they are.

    For the native kernels as many parts are made side by side as there are threads; else each
    before the next one is read.
    """

    def make(name: str) -> list[str]:
        part, made = model.get_submodule(name), [name]
        fill_(part, name, weights, device, dtype)
        bits = held_in(name, quantization, model.config, is_packed=pool is not None)
        if pool is not None:
            if name != "output":  # of which the legal rows are packed, as the head
                pack_linears_(model, name, pool, bits)
            compute_in_float32_(part)
        elif bits is not None:
            quantize_linears_(model, name, cast(Bits, bits))
        elif device.type == "cpu":
            lay_out_for_cpu_(part)
        if name == ("embeddings" if model.config.tie_word_embeddings else "output"):
            if pool is not None:
                pack_head_(model, pool, is_rounded=quantization != "none")
            elif quantization == "none":
                model.freeze_head_()
            else:
                quantize_head_(model)
            made += ["head"] if model.head is not None else []
        return made

    if pool is None:
        for name in _parts(model):
            yield from make(name)
        return
    # Torch counts each thread's threads apart.
    count, begun = torch.get_num_threads(), deque[Future[list[str]]]()
    with ThreadPoolExecutor(count, "pack", torch.set_num_threads, (1,)) as threads:
        for name in _parts(model):
            begun.append(threads.submit(make, name))
            if len(begun) > count:
                yield from begun.popleft().result()
        for part in begun:
            yield from part.result()


def _parts(model: DualAR) -> list[str]:
    """Names of the model's submodules, each layer on its own."""
    names = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            names += [f"{name}.{index}" for index in range(len(child))]
        else:
            names.append(name)
    return names


def save_checkpoint(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Write a folder of our own layout, weights as `dtype`; BadCheckpoint if quantized."""
    if checkpoint.quantization != "none":
        raise BadCheckpoint(
            f"a checkpoint held in {checkpoint.quantization} cannot be saved: its weights are "
            "rounded; load it without quantization"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (
        ("config", checkpoint.config),
        ("codec", checkpoint.codec_config),
        ("shoal", checkpoint.info),
    ):
        text = json.dumps(part.to_json(), indent=2) + "\n"
        (folder / f"{name}.json").write_text(text, "utf-8")
    checkpoint.tokenizer.to_folder(folder)
    for name, module in (("model", checkpoint.model), ("codec", checkpoint.codec)):
        tensors = {
            k: v.detach().to("cpu", dtype).contiguous() for k, v in module.state_dict().items()
        }
        save_file(tensors, folder / f"{name}.safetensors")


def _check_sizes(config: DualARConfig, codec: CodecConfig, tokenizer: Tokenizer) -> None:
    problems = []
    if tokenizer.vocab_size > config.vocab_size:
        problems.append(f"{tokenizer.vocab_size} token ids for a vocabulary of {config.vocab_size}")
    if tokenizer.semantic_tokens < config.codebook_size:
        problems.append(
            f"{tokenizer.semantic_tokens} semantic tokens for a code book of {config.codebook_size}"
        )
    if config.num_codebooks != codec.num_codebooks:
        problems.append(
            f"{config.num_codebooks} code books in config.json, {codec.num_codebooks} in the codec"
        )
    if config.codebook_size != codec.semantic_codebook_size:
        problems.append(
            f"a code book of {config.codebook_size} in config.json, "
            f"of {codec.semantic_codebook_size} in the codec"
        )
    if problems:
        raise BadCheckpoint("the checkpoint's files do not fit together: " + "; ".join(problems))


def _check_weights(name: str, module: nn.Module, weights: Weights) -> None:
    problems = list(mismatches(module.state_dict(), weights))
    if problems:
        raise BadCheckpoint(f"the {name} weights do not fit: " + "; ".join(problems))
