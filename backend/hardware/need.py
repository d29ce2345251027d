"""What a checkpoint needs in memory, from its JSON files: weights, process, one request.

Nothing here reads a weight or imports torch. The arithmetic of shapes stands on the configs; here
it is put together with what was measured of the process around it. `benchmarks/memory.py` compares
the outcome with real workers.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from backend.core import MIB, Quantization
from backend.errors import BadCheckpoint
from backend.model.config import (
    CacheGeometry,
    CheckpointInfo,
    CodecConfig,
    DualARConfig,
    capacities,
    read_json,
)
from backend.model.reading import expected_s, longest_s
from backend.native.compiler import CannotCompile, find_compiler

ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one weight, key or value by the name of the precision."""
CODEC_ELEMENT_BYTES = 4
"""The codec computes in float32 whatever the transformer does."""

Reading = Literal["expected", "longest"]
"""How long a text takes to be said: as most voices do, or up to the engine's runaway guard."""

CPU_RUNTIME_BYTES = 274 * MIB
"""Python, torch's libraries and what they keep, once a word was spoken: what a worker on Linux with
torch 2.13 has beside its weights, 30 more in bfloat16 (`python -m benchmarks.memory`)."""
CPU_STARTING_BYTES = 56 * MIB
"""What a worker there takes beside all that while it starts, the compiler of its kernels with it:
with the shipped voice it was killed in a cgroup of 480 MB, and not in one of 500."""
CUDA_RUNTIME_BYTES = 810 * MIB
"""The driver's context (620), the code of cuBLAS and cuDNN (140), cuBLAS's workspace and rounding:
what a worker has on an H200 beside its weights (torch 2.11, CUDA 13, by NVML)."""
CUDA_FAST_BYTES = 300 * MIB
"""What the fast ways of a frame take of a GPU beside that: buffers of every slot (53 MB for 128), a
workspace that all graphs share, the graphs, their kernels, holes. Where it does not fit, frames are
made without them. With it the plan lies 6 to 9 % above what 128 rows took of an H100, by NVML
(`benchmarks.gpu --rows memory`)."""

_PROMPT_TOKENS = 8
"""Tokens beside those of the text: control tokens, some of them spelt out."""
_FEW_TOKENS = 1024
"""A vocabulary with fewer text tokens than this spells text byte by byte."""
_BYTES_PER_TOKEN = 4.0
"""UTF-8 bytes that a token of a large vocabulary stands for, on average."""
_WIDE_BYTES = 3
"""Of a Han character in UTF-8."""
_GROUP_COLUMNS, _SCALE_BYTES = 32, 2
"""Of `model.quantize`: columns that share a scale and an offset in int4, both bfloat16."""
_PACKED_ROWS = {"cpu": 64, "cuda": 8}
"""Rows that torch's int4 kernels want a multiple of."""
_RECORDING_BYTES = 8
"""Of a sample of a reference at the codec's rate: as it was decoded, and filled up to whole pieces.
The file's own rate does not matter, for it is decoded in blocks."""
_DECODED_BYTES = 12
"""Beside a sample that is decoded: the server has it in pieces, whole, and encoded."""
_FIRST_USE_BYTES = 24 * MIB
"""What the first speech leaves behind beside its tensors: code that oneDNN compiles for the three
piece sizes that the trial did not use, and small holes; measured on the shipped voice."""
_NATIVE_FIRST_USE_BYTES = 4 * MIB
"""The same where kernels of our own decode: holes; measured on the shipped voice."""
_THREAD_HOLDS = 2
"""Times its workspace that decoding takes of main memory in a thread beside the speech, whose heap
is its own: measured 39 MiB with what is first used, on the shipped voice, for a workspace of 11."""
_CUDA_HOLDS = 2
"""Times its workspace that torch keeps of a GPU: blocks of one size are not reused for another.
Measured on an H200: 230 to 290 MiB for workspaces of 126."""


@dataclass(frozen=True, slots=True)
class RequestNeed:
    """What a request, or several together, add to an idle worker."""

    cache_bytes: int
    """Keys and values of all its rows: one for each segment at work."""
    longest_row_bytes: int
    """Those of the row that takes most."""
    own_bytes: int
    """What lives as long as the request beside that: streams of the codec, audio that waits."""
    passing_bytes: int
    """The largest workspace. Requests pass through it one after another."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.cache_bytes + self.own_bytes + self.passing_bytes

    def within(self, cache_limit_bytes: int) -> int:
        """All of it where keys and values have a limit, past which rows wait.

        A row that is alone is spoken whatever the limit says.
        """
        cache = min(self.cache_bytes, max(cache_limit_bytes, self.longest_row_bytes))
        return cache + self.own_bytes + self.passing_bytes

    @classmethod
    def together(cls, needs: Iterable["RequestNeed"]) -> "RequestNeed":
        """What requests need that are spoken side by side."""
        cache_bytes = longest_row_bytes = own_bytes = passing_bytes = 0
        for need in needs:
            cache_bytes, own_bytes = cache_bytes + need.cache_bytes, own_bytes + need.own_bytes
            longest_row_bytes = max(longest_row_bytes, need.longest_row_bytes)
            passing_bytes = max(passing_bytes, need.passing_bytes)
        return cls(cache_bytes, longest_row_bytes, own_bytes, passing_bytes)


@dataclass(frozen=True, slots=True)
class CheckpointShape:
    """The shapes of a checkpoint folder, and the bytes that follow from them."""

    model: DualARConfig
    codec: CodecConfig
    info: CheckpointInfo
    decoder_bytes: int = CODEC_ELEMENT_BYTES
    """Of a weight of what decodes, on a CPU: 2 where it will have kernels of our own."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.info.name

    @property
    def has_kernels(self) -> bool:
        """There is a compiler for the kernels in C, for which a CPU holds its weights."""
        return self.decoder_bytes < CODEC_ELEMENT_BYTES

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read `config.json`, `codec.json` and `shoal.json`; BadCheckpoint says what is wrong."""
        if not folder.is_dir():
            raise BadCheckpoint(f"there is no checkpoint folder {folder}")
        model = DualARConfig.from_json(read_json(folder / "config.json"))
        codec, info = CodecConfig(), CheckpointInfo(name=folder.name)
        if (codec_file := folder / "codec.json").exists():
            codec = CodecConfig.from_json(read_json(codec_file))
        if (info_file := folder / "shoal.json").exists():
            info = CheckpointInfo.from_json(read_json(info_file))
        return cls(model, codec, info, _decoder_bytes())

    def weight_bytes(self, precision: str, quantization: Quantization, device: str = "cpu") -> int:
        """Bytes of the weights in memory: transformer as stored, codec in float32.

        The copy of the head's legal rows is among them. A CPU has what encodes in memory only while
        it encodes, and what decodes as `decoder_bytes` says; a GPU decodes in 16 bits.
        """
        element, model = ELEMENT_BYTES[precision], self.model
        codec = self.codec.parameters * CODEC_ELEMENT_BYTES
        if device == "cpu":
            codec -= self.codec.encoding_parameters * CODEC_ELEMENT_BYTES
            codec -= self.codec.decoding_parameters * (CODEC_ELEMENT_BYTES - self.decoder_bytes)
        elif device.startswith("cuda"):
            codec -= self.codec.decoding_parameters * (CODEC_ELEMENT_BYTES - ELEMENT_BYTES["fp16"])
        total = model.parameters * element + codec
        head = (model.codebook_size + 1, model.slow.dim)
        if quantization == "none":
            return total + math.prod(head) * element
        layer, layers = model.slow.matrices, model.slow.n_layer
        slow = layer * layers
        fast = model.fast.matrices * model.fast.n_layer
        fast += ((model.codebook_size, model.fast.dim),)
        total -= sum(rows * columns for rows, columns in slow + fast) * element
        # Of int4 only the slow layers are.
        total += sum(_int8_bytes(*shape) for shape in (*fast, head))
        is_packed = device == "cpu" and self.has_kernels
        if is_packed:  # the head is of twice as many bits there, and a small one's last layers
            total += _int8_bytes(*head)
            wide = model.slow.wide_layers if model.is_small else 0
            total += wide * sum(_int8_bytes(*shape) for shape in layer)
        if quantization == "int8":
            return total + sum(_int8_bytes(*shape) for shape in slow)
        if is_packed:
            fine = model.slow.fine_layers
            total += fine * sum(_int8_bytes(*shape) for shape in layer)
            return total + (layers - fine) * sum(_six_bit_bytes(*shape) for shape in layer)
        multiple = _PACKED_ROWS.get(device.partition(":")[0], 1)
        return total + sum(_int4_bytes(*shape, multiple) for shape in slow)

    def resident_bytes(
        self, precision: str, quantization: Quantization, device: str, rows: int
    ) -> int:
        """Memory of the worker once it has loaded and tried everything.

        On a GPU, what lies in its memory, without the fast ways of a frame: the codec's stage has
        a place for each of `rows` from the start.
        """
        weights = self.weight_bytes(precision, quantization, device)
        if device.startswith("cuda"):
            return weights + CUDA_RUNTIME_BYTES + self.codec.stage_bytes(rows)
        return weights + CPU_RUNTIME_BYTES

    def request_bytes(
        self,
        characters: int,
        precision: str,
        chunk_length: int,
        open_segments: int = 3,
        reference_s: float = 0.0,
        *,
        quantization: Quantization = "none",
    ) -> int:
        """Memory that one request of `characters` is expected to add to an idle worker on a CPU."""
        need = self.request_need(
            characters,
            precision,
            chunk_length,
            open_segments,
            reference_s,
            reading="expected",
            quantization=quantization,
        )
        return need.total_bytes

    def request_need(
        self,
        characters: int,
        precision: str,
        chunk_length: int,
        open_segments: int = 3,
        reference_s: float = 0.0,
        *,
        reading: Reading = "longest",
        wide_share: float = 0.0,
        device: str = "cpu",
        quantization: Quantization = "none",
    ) -> RequestNeed:
        """What one request of `characters` adds, spoken in segments of `chunk_length`.

        `wide_share` of the characters take long to say. The "longest" reading is a bound, the
        "expected" one a prediction.
        """
        element = ELEMENT_BYTES[precision]
        segment = max(1, min(characters, chunk_length, self.info.max_segment_characters))
        rows = min(open_segments, math.ceil(max(1, characters) / segment))
        frames = self.frames(segment, reading, wide_share)
        prompt = self.prompt_tokens(segment, wide_share)
        # All that is sent: several recordings are together longer than the longest.
        prompt += math.ceil(reference_s * self.codec.frame_rate_hz)
        prompt = min(prompt, self.model.max_seq_len)
        length = min(prompt + frames, self.model.max_seq_len)
        most = prompt + self.frames(segment, "longest", wide_share)
        most = min(most, self.model.max_seq_len)
        geometry = self._geometry(element, device, quantization)
        row_bytes = geometry.row_bytes(capacities(prompt, length, most)[-1])
        passing = max(
            self.model.prefill_workspace_bytes(prompt, element),
            self.model.sampling_bytes(rows),
            geometry.growing_bytes(prompt, length, most),
        )
        if device.startswith("cuda"):  # the stage is resident, and sound waits in main memory
            own, passing = 0, passing * _CUDA_HOLDS
        else:
            own = rows * self.codec.stream_bytes
            own += (rows - 1) * frames * self.codec.frame_samples * CODEC_ELEMENT_BYTES
            passing = max(passing, self._decode_workspace_bytes) + self._first_use_bytes
        return RequestNeed(
            cache_bytes=rows * row_bytes,
            longest_row_bytes=row_bytes,
            own_bytes=own,
            passing_bytes=passing,
        )

    def _geometry(
        self, element_bytes: int, device: str, quantization: Quantization
    ) -> CacheGeometry:
        """Of rows of keys and values, which kernels of our own read in few bits."""
        if device == "cpu" and quantization != "none" and self.has_kernels:
            return CacheGeometry.packed(self.model.slow, is_fine=self.model.is_small)
        return CacheGeometry.of(self.model.slow, element_bytes)

    def frames(self, characters: int, reading: Reading, wide_share: float = 0.0) -> int:
        """Code frames of a segment's speech."""
        spoken_s = (expected_s if reading == "expected" else longest_s)(characters, wide_share)
        return math.ceil(spoken_s * self.codec.frame_rate_hz)

    def prompt_tokens(self, characters: int, wide_share: float = 0.0) -> int:
        """Tokens of a segment's prompt, by the bytes of its text: the server has no tokenizer."""
        text_bytes = characters * (1 - wide_share + _WIDE_BYTES * wide_share)
        return _PROMPT_TOKENS + math.ceil(text_bytes / self.bytes_per_token)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text that one token stands for, on average."""
        is_spelt = self.model.vocab_size - self.model.codebook_size < _FEW_TOKENS
        return 1.0 if is_spelt else _BYTES_PER_TOKEN

    def encoding_need(
        self, recording_s: float, decoding_bytes: int = 0, device: str = "cpu"
    ) -> RequestNeed:
        """What encoding a recording adds: it goes on beside whatever is being spoken.

        `decoding_bytes` are what its file takes beside the samples while it is decoded.
        """
        recording_s = min(recording_s, self.info.max_reference_s)
        samples = int(recording_s * self.codec.sample_rate_hz)
        encoding = self.codec.encode_workspace_bytes()
        if device.startswith("cuda"):  # the recording lies in main memory, which is not leased then
            own = _CUDA_HOLDS * encoding
        else:
            stage = self.codec.encoding_stage_parameters(self.has_kernels) * CODEC_ELEMENT_BYTES
            between = int(recording_s * self.codec.encoding_row_bytes)
            own = stage + between + encoding + samples * _RECORDING_BYTES + decoding_bytes
        return RequestNeed(cache_bytes=0, longest_row_bytes=0, own_bytes=own, passing_bytes=0)

    @property
    def _decode_workspace_bytes(self) -> int:
        """Of a CPU."""
        if self.has_kernels:
            return self.codec.native_workspace_bytes()
        return self.codec.decode_workspace_bytes()

    @property
    def _first_use_bytes(self) -> int:
        return _NATIVE_FIRST_USE_BYTES if self.has_kernels else _FIRST_USE_BYTES

    def decoding_need(self, voice_s: float, device: str = "cpu") -> RequestNeed:
        """What decoding so much of a voice adds: it goes on beside whatever is being spoken."""
        heard = int(voice_s * self.codec.sample_rate_hz) * _DECODED_BYTES
        if device.startswith("cuda"):  # what is heard lies in main memory, which is not leased then
            workspace = self.codec.decode_workspace_bytes()
            own = _CUDA_HOLDS * (self.codec.stream_bytes + workspace)
        else:
            decoding = self.codec.stream_bytes + self._decode_workspace_bytes
            own = _THREAD_HOLDS * decoding + heard + self._first_use_bytes
        return RequestNeed(cache_bytes=0, longest_row_bytes=0, own_bytes=own, passing_bytes=0)


def _decoder_bytes() -> int:
    """Where there is no compiler, the codec decodes in float32."""
    try:
        find_compiler()
    except CannotCompile:
        return CODEC_ELEMENT_BYTES
    return ELEMENT_BYTES["bf16"]


def _int8_bytes(rows: int, columns: int) -> int:
    """Bytes of a matrix [rows, columns] as `model.quantize` holds it: a scale for each row."""
    return rows * (columns + _SCALE_BYTES)


def _six_bit_bytes(rows: int, columns: int) -> int:
    """What most of int4 is where the kernels in C multiply: six bits a weight, a scale a row."""
    return rows * (columns * 6 // 8 + 2 * _SCALE_BYTES)


def _int4_bytes(rows: int, columns: int, multiple: int) -> int:
    """The same in half a byte: a scale and an offset for each group of columns."""
    if columns % _GROUP_COLUMNS:
        return _int8_bytes(rows, columns)
    padded = -(-rows // multiple) * multiple
    return padded * (columns // 2 + columns // _GROUP_COLUMNS * 2 * _SCALE_BYTES)
