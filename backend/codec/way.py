"""Which type and which kernels the decoder of a codec computes with: the fastest that sounds alike.

Each way is tried on this machine with the codec's own weights, and compared with float32.
"""

import copy
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from loguru import logger
from torch import Tensor

from backend.model.codec_layout import (
    DecodingParts,
    Kernels,
    decoding_parts,
    lay_out_decoder_,
    use_decoding_parts_,
)
from backend.model.config import CodecConfig
from backend.model.dac import DAC
from backend.model.stream import Stream

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LEAST_SNR_DB = 40.0
"""How far what rounding changes must lie below the sound."""
_ROWS, _PIECES = 2, (2, 4, 16)


@dataclass(frozen=True, slots=True)
class Way:
    """How the decoder computes."""

    precision: str
    kernels: Kernels
    snr_db: float = math.inf
    """How far its rounding lies below the sound in float32, once it was tried."""

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return DTYPES[self.precision]

    def __str__(self) -> str:
        tried = (
            "" if self.snr_db == math.inf else f", rounding {self.snr_db:.0f} dB below the sound"
        )
        return f"{self.precision} ({self.kernels}{tried})"


PLAIN = Way("fp32", "plain")
"""What every other is compared with."""


def has_triton() -> bool:
    """Whether Triton is installed: it comes with CUDA's torch for Linux alone."""
    return importlib.util.find_spec("triton") is not None


def ways(device: torch.device) -> Sequence[Way]:
    """What is worth trying on `device`, the fastest first; for a CPU see `cpu_way`."""
    if device.type != "cuda":
        return ()
    kernels: tuple[Kernels, ...] = ("channels last",)
    if has_triton():
        kernels = ("fused", *kernels)
    # Both are as fast; fp16 rounds eight times less, bf16 overflows later.
    return [Way(precision, kind) for kind in kernels for precision in ("fp16", "bf16")]


def take_fastest_(codec: DAC, ways: Sequence[Way], known_snr_db: float | None = None) -> Way:
    """Let the decoder of `codec` compute in the first of `ways` that sounds alike; `PLAIN` if none.

    Its encoder stays as it is: codes are the same whatever decodes them. `known_snr_db` says that
    the first way was tried before with these weights, and was taken.
    """
    originals, wanted = decoding_parts(codec), None
    for way in ways:
        if wanted is None and known_snr_db is None:
            use_decoding_parts_(codec, originals)
            wanted = _sound(codec)
        use_decoding_parts_(codec, _copied(originals, way.dtype))
        try:
            lay_out_decoder_(codec, way.dtype, way.kernels)
            snr_db = known_snr_db if wanted is None else snr_of(wanted, _sound(codec))
            assert snr_db is not None
        except Exception as error:  # noqa: BLE001 - a kernel's compiler may raise anything
            logger.warning("The codec does not compute in {}: {}", way, error)
        else:
            tried = replace(way, snr_db=snr_db)
            if snr_db >= LEAST_SNR_DB:
                return tried
            logger.info("The codec is not computed in {}.", tried)
        known_snr_db = None
    use_decoding_parts_(codec, originals)
    return PLAIN


def some_codes(config: CodecConfig, rows: int, frames: int) -> Tensor:
    """Codes to try a codec with: [rows, N, frames], the same each time."""
    chance = torch.Generator().manual_seed(0)
    least = min(config.semantic_codebook_size, config.residual_codebook_size)
    return torch.randint(0, least, (rows, config.num_codebooks, frames), generator=chance)


@torch.inference_mode()
def _sound(codec: DAC) -> Tensor:
    """What some codes sound like, piece by piece: [rows, samples]."""
    device = next(codec.decoder.parameters()).device
    codes = some_codes(codec.config, _ROWS, sum(_PIECES)).to(device)
    parts = torch.split(codes, list(_PIECES), -1)
    stream = Stream(_ROWS)
    stream.select(torch.arange(_ROWS, device=device))
    # Otherwise TF32 would round what is compared with.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return torch.cat([codec.decode(part, stream) for part in parts], -1)


def _copied(parts: DecodingParts, dtype: torch.dtype) -> DecodingParts:
    transformer, upsample, decoder = parts
    # One after another: each has but its own copy in float32 beside it.
    return (
        copy.deepcopy(transformer).to(dtype),
        copy.deepcopy(upsample).to(dtype),
        copy.deepcopy(decoder).to(dtype),
    )


def snr_of(wanted: Tensor, found: Tensor) -> float:
    """How far what differs lies below the sound, in dB."""
    wanted, found = wanted.double(), found.double()
    noise = (wanted - found).square().mean()
    return float(10 * torch.log10(wanted.square().mean() / noise))
