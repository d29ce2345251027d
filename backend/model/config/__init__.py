"""Shapes of the transformer and the codec, from a checkpoint's files. Pure arithmetic, no torch.

Field names and defaults are those of `fish-speech==0.1.0` (`DualARModelArgs` and
`modded_dac_vq.yaml`), so that the official `config.json` is read as it stands. What a shape costs
in weights and in bytes is computed here too, and how long rows of keys and values are.
"""

from backend.model.config.cache import (
    KV_BUCKET,
    STEP_BYTES,
    CacheGeometry,
    capacities,
    first_capacity,
    grown_capacity,
    last_capacity,
    packed_bits,
    packed_bytes,
)
from backend.model.config.codec import (
    DECODE_FRAMES,
    ENCODE_FRAMES,
    NATIVE_FRAMES,
    STAGE_FRAMES,
    STAGE_FRAMES_TOGETHER,
    CodecConfig,
    WindowConfig,
)
from backend.model.config.files import read_json
from backend.model.config.fingerprint import (
    checkpoint_fingerprint,
    codec_fingerprint,
    codec_part,
    packed_fingerprint,
)
from backend.model.config.info import CheckpointInfo
from backend.model.config.transformer import (
    MODEL_TYPES,
    RESIDUAL_CODEBOOK_SIZE,
    DualARConfig,
    TransformerConfig,
)

__all__ = [
    "DECODE_FRAMES",
    "ENCODE_FRAMES",
    "KV_BUCKET",
    "MODEL_TYPES",
    "NATIVE_FRAMES",
    "RESIDUAL_CODEBOOK_SIZE",
    "STAGE_FRAMES",
    "STAGE_FRAMES_TOGETHER",
    "STEP_BYTES",
    "CacheGeometry",
    "CheckpointInfo",
    "CodecConfig",
    "DualARConfig",
    "TransformerConfig",
    "WindowConfig",
    "capacities",
    "checkpoint_fingerprint",
    "codec_fingerprint",
    "codec_part",
    "first_capacity",
    "grown_capacity",
    "last_capacity",
    "packed_bits",
    "packed_bytes",
    "packed_fingerprint",
    "read_json",
]
