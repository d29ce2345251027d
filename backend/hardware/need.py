"""What a checkpoint needs in memory, from its three JSON files: weights, process, one request.

Nothing here reads a weight or imports torch. The arithmetic of shapes stands on the configs; here
it is put together with what was measured of the process around it.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from backend.core import Quantization
from backend.errors import BadCheckpoint
from backend.model.config import CheckpointCard, CodecConfig, DualARConfig, TransformerConfig

MIB = 1024 * 1024
ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one weight, key or value by the name of the precision."""
CODEC_ELEMENT_BYTES = 4
"""The codec computes in float32 whatever the transformer does."""

CPU_RUNTIME_BYTES = 300 * MIB
CUDA_RUNTIME_BYTES = 500 * MIB

GROUP = 32
KV_BUCKET = 64
MOST_CHUNK_FRAMES = 24


@dataclass(frozen=True, slots=True)
class CheckpointShape:
    """The shapes of a checkpoint folder, and the bytes that follow from them."""

    model: DualARConfig
    codec: CodecConfig
    card: CheckpointCard

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.card.name

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read `config.json`, `codec.json` and `shoal.json`; BadCheckpoint says what is wrong."""
        if not folder.is_dir():
            raise BadCheckpoint(f"there is no checkpoint folder {folder}")
        codec_file, card_file = folder / "codec.json", folder / "shoal.json"
        return cls(
            DualARConfig.from_json(_read_json(folder / "config.json")),
            CodecConfig.from_json(_read_json(codec_file)) if codec_file.exists() else CodecConfig(),
            CheckpointCard.from_json(_read_json(card_file))
            if card_file.exists()
            else CheckpointCard(name=folder.name),
        )

    def weight_bytes(self, precision: str, quantization: Quantization) -> int:
        """Bytes of the weights in memory: transformer as stored, codec in float32."""
        element = ELEMENT_BYTES[precision]
        model = self.model
        legal_head = (model.codebook_size + 1) * model.slow.dim
        total = (model.parameters + legal_head) * element
        if quantization != "none":
            for rows, columns in self._quantized_matrices():
                total += _quantized_bytes(rows, columns, quantization) - rows * columns * element
        return total + self.codec.parameters * CODEC_ELEMENT_BYTES

    def resident_bytes(self, precision: str, quantization: Quantization, device: str) -> int:
        """Memory of the worker once it has loaded and tried everything.

        On a GPU, what lies in its memory.
        """
        runtime = CPU_RUNTIME_BYTES if not device.startswith("cuda") else CUDA_RUNTIME_BYTES
        return self.weight_bytes(precision, quantization) + runtime

    def request_bytes(
        self,
        characters: int,
        precision: str,
        chunk_length: int,
        open_segments: int = 3,
        reference_s: float = 0.0,
    ) -> int:
        """Memory that one request of `characters` is expected to add to an idle worker."""
        segment = min(characters, chunk_length, self.card.max_segment_characters)
        rows = min(open_segments, max(1, math.ceil(characters / max(1, segment))))
        frames = segment / 12 * self.codec.frame_rate_hz
        positions = segment + frames + reference_s * self.codec.frame_rate_hz
        kv = rows * positions * self.model.kv_bytes_per_frame(ELEMENT_BYTES[precision])
        samples = MOST_CHUNK_FRAMES * self.codec.frame_samples
        codec = samples * self.codec.decoder_dim * CODEC_ELEMENT_BYTES
        return int(kv * 1.25 + codec)

    def _quantized_matrices(self) -> list[tuple[int, int]]:
        model = self.model
        stacks: tuple[TransformerConfig, ...] = (model.slow, model.fast)
        blocks = [shape for stack in stacks for shape in stack.matrices * stack.n_layer]
        return [*blocks, (model.codebook_size, model.fast.dim)]


def _quantized_bytes(rows: int, columns: int, quantization: Quantization) -> int:
    if quantization == "int8":
        return rows * columns + 4 * rows
    return rows * columns // 2 + 2 * 2 * rows * math.ceil(columns / GROUP)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path} must hold a JSON object")
    return value
