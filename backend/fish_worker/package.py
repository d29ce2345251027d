"""The published `fish-speech==0.1.0`: how its classes are found, filled and called.

Nothing else imports the package. Run as a program, this prints what was installed, as JSON.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import math
import pickle
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backend.errors import BadCheckpoint
from backend.model.config import CodecConfig, WindowConfig

NAME = "fish-speech"
RESERVED_POSITIONS = 2048
"""The package refuses a prompt that leaves fewer positions than these behind it."""
CODEC_POSITIONS = 4096
"""Frames that its codec's transformers have positions for."""
_COMPUTED = ("freqs_cis", "causal_mask")
"""Last parts of the names of buffers that it computes, and that a file may hold or not."""
_FRAME_COLUMNS = 4
"""Its codec pads to so many columns of the encoder a frame, whatever it was built for."""
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError)


def published(name: str) -> Any:
    """A module of fish_speech; imported late, and unknown to our type checker."""
    _prepare()
    return importlib.import_module(f"fish_speech.{name}")


@functools.lru_cache(maxsize=1)
def _prepare() -> None:
    """Stand in for what the package imports and never uses here."""
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        # There is no build of it for every platform and version of torch.
        _stand_in("torchaudio")
    spec = importlib.util.find_spec("fish_speech")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("fish_speech is not installed in this environment")
    # Its __init__ imports a web server's and a trainer's libraries; only its codec's manager is
    # wanted, which needs none of them.
    home = Path(spec.submodule_search_locations[0])
    _stand_in("fish_speech.inference_engine", home / "inference_engine")
    # It copies tensors and normalises weights in ways that torch warns of.
    warnings.filterwarnings("ignore", category=UserWarning, module="fish_speech")
    warnings.filterwarnings(
        "ignore", category=FutureWarning, message=r"`torch\.nn\.utils\.weight_n"
    )


def _stand_in(name: str, folder: Path | None = None) -> None:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=folder is not None)
    if folder is not None:
        module.__path__ = [str(folder)]
    sys.modules[name] = module


# -- the transformer -------------------------------------------------------------------------------


def positions_for(context_tokens: int) -> int:
    """Positions to give the package, so that a checkpoint of `context_tokens` can be spoken.

    It attends over all of them at each step, so an official checkpoint keeps its own number.
    """
    is_roomy = context_tokens >= 2 * RESERVED_POSITIONS
    wanted = context_tokens if is_roomy else context_tokens + RESERVED_POSITIONS
    return -(-wanted // 8) * 8  # its cache is rounded up so, its mask is not


def load_transformer(folder: Path, positions: int | None = None) -> Any:
    """The package's DualARTransformer from `config.json`, the tokenizer's files and `model.pth`.

    `positions` None takes the number in `config.json`. Raises `BadCheckpoint`.
    """
    llama = published("models.text2semantic.llama")
    # By a relative path: it takes a checkpoint for quantized if its path has "int8" in it anywhere.
    with _readable(folder), contextlib.chdir(folder):
        model = llama.DualARTransformer.from_pretrained(
            ".", load_weights=True, max_length=positions
        )
        lacking = list(_not_filled(model, _read(Path("model.pth"))))
    if lacking:
        # It only logs these, and would speak with random numbers in their place.
        raise BadCheckpoint(f"model.pth of {folder} lacks {', '.join(lacking)}")
    return model.eval()


def _not_filled(model: Any, weights: dict[str, Tensor]) -> Iterator[str]:
    found = {key.removeprefix("model.") for key in weights}
    for key, _ in model.named_parameters():
        # Older files hold queries, keys and values apart.
        if key not in found and key.replace(".wqkv.", ".wq.") not in found:
            yield key


# -- the codec -------------------------------------------------------------------------------------


def load_codec(folder: Path, config: CodecConfig | None) -> Any:
    """The package's DAC from `codec.pth`, in float32.

    `config` None means the shape of the package's own file. Raises `BadCheckpoint`.
    """
    with _readable(folder):
        state = _read(folder / "codec.pth")
    if any("generator" in key for key in state):
        state = {k.replace("generator.", ""): v for k, v in state.items() if "generator." in k}
    state = {key: value for key, value in state.items() if not key.endswith(_COMPUTED)}
    model = _own_codec() if config is None else build_codec(config)
    with _readable(folder):
        outcome = model.load_state_dict(state, strict=False, assign=True)
    lacking = [key for key in outcome.missing_keys if not key.endswith(_COMPUTED)]
    if lacking or outcome.unexpected_keys:
        raise BadCheckpoint(
            f"codec.pth of {folder} is not of this shape: it lacks {lacking or 'nothing'} "
            f"and also has {outcome.unexpected_keys or 'nothing else'}"
        )
    return model.float().eval()


def build_codec(
    config: CodecConfig,
    positions: int = CODEC_POSITIONS,
    encoder_positions: int = CODEC_POSITIONS * _FRAME_COLUMNS,
) -> Any:
    """The package's DAC of that shape, its transformers that many frames and columns long."""
    if math.prod(config.downsample_factor) != _FRAME_COLUMNS:
        raise BadCheckpoint(
            f"{NAME} has {_FRAME_COLUMNS} columns of the encoder a frame; "
            f"this codec's downsample_factor is {config.downsample_factor}"
        )
    dac, rvq = published("models.dac.modded_dac"), published("models.dac.rvq")

    def window(part: WindowConfig) -> Any:
        shape = dac.ModelArgs(
            block_size=positions,
            n_layer=part.n_layer,
            n_head=part.n_head,
            head_dim=part.head_dim,
            dim=part.dim,
            intermediate_size=part.intermediate_size,
            rope_base=part.rope_base,
            norm_eps=part.norm_eps,
        )
        return dac.WindowLimitedTransformer(
            config=shape, input_dim=config.latent_dim, window_size=part.window
        )

    quantizer = rvq.DownsampleResidualVectorQuantize(
        input_dim=config.latent_dim,
        n_codebooks=config.residual_codebooks,
        codebook_dim=config.codebook_dim,
        codebook_size=config.residual_codebook_size,
        semantic_codebook_size=config.semantic_codebook_size,
        downsample_factor=config.downsample_factor,
        pre_module=window(config.pre),
        post_module=window(config.post),
    )
    return dac.DAC(
        sample_rate=config.sample_rate_hz,
        encoder_dim=config.encoder_dim,
        encoder_rates=list(config.encoder_rates),
        latent_dim=config.latent_dim,
        decoder_dim=config.decoder_dim,
        decoder_rates=list(config.decoder_rates),
        quantizer=quantizer,
        encoder_transformer_layers=list(config.encoder_transformer_layers),
        decoder_transformer_layers=[0] * len(config.decoder_rates),
        transformer_general_config=functools.partial(dac.ModelArgs, block_size=encoder_positions),
    )


def _own_codec() -> Any:
    home = Path(published("models").__path__[0]).parent
    settings = importlib.import_module("omegaconf").OmegaConf.load(
        home / "configs/modded_dac_vq.yaml"
    )
    return importlib.import_module("hydra.utils").instantiate(settings)


# -- files -----------------------------------------------------------------------------------------


def _read(file: Path) -> dict[str, Tensor]:
    raw = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    weights = raw.get("state_dict", raw)
    return {key: value for key, value in weights.items() if isinstance(value, Tensor)}


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Whatever its loaders raise at a file that they cannot use, as `BadCheckpoint`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (*_UNREADABLE, RuntimeError) as error:
        raise BadCheckpoint(
            f"{NAME} cannot read {folder}: {type(error).__name__}: {error}"
        ) from error


def _installed() -> dict[str, str]:
    """Versions of what was installed, once everything that a worker uses has been imported."""
    for name in ("models.text2semantic.inference", "models.dac.rvq", "inference_engine.vq_manager"):
        published(name)
    return {
        "package": f"{NAME} {importlib.metadata.version(NAME)}",
        "torch": str(torch.__version__),
        "torchaudio": getattr(sys.modules["torchaudio"], "__version__", ""),
    }


if __name__ == "__main__":
    print(json.dumps(_installed()))
