"""What the HTTP process and the worker say to each other: msgpack, typed, nothing pickled.

A frame on the pipe is a four-byte little-endian length and that many bytes of msgpack. The first
message from a worker, but for `Starting`, is `Ready` or `Failed` with `request_id` "". Any program
that speaks this can be a worker, under whatever interpreter.
"""

import struct
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from backend.core import (
    MIB,
    EngineInfo,
    QualityCost,
    Quantization,
    ReferenceCodes,
    SamplingParams,
    SpeechStats,
    VoicePrompt,
)

MAX_MESSAGE_BYTES = 64 * MIB
MAX_DECODED_S = 10.0
"""Seconds of codes that are decoded for one request."""
BEAT_S = 0.5
"""Seconds between two `Beat` of a worker that sends them."""
_LENGTH = struct.Struct("<I")


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is started with: `python -m backend.worker.main --config '<json>'`."""

    model_dir: str
    device: str = "auto"
    precision: str = "auto"
    may_fall_back: bool = False
    """Take the CPU in fp32 where torch cannot use `device`; the handshake tells."""
    num_threads: int | None = None
    """None is as many as there are physical cores."""
    cpus: tuple[int, ...] = ()
    """Logical CPUs to pin to before torch is imported; empty is not pinned."""
    quantization: Quantization = "none"
    calibration_samples: int = 0
    """Texts that choose clipping scales and measure the quality cost; 0 skips both."""
    least_kept: float = 0.0
    """Quantize for speed alone: where kernels in C multiply on a CPU, and no smaller share of the
    most probable codes is kept; else hold the weights in full. 0 quantizes whatever comes of it."""
    try_compile: bool = False
    """Try code that is compiled here: on a GPU Triton's, on a CPU kernels in C."""
    compile_dir: str = ""
    """Folder that keeps what was compiled for the next start; "" keeps nothing."""
    has_room_for_graphs: bool = True
    """On a GPU: buffers and CUDA graphs fit beside weights and requests; else frames are eager."""
    cache_limit_mb: int | None = None
    """Memory for keys and values, in MiB; None is a share of what is free."""
    max_batch: int = 16
    """Most rows decoded together."""
    decode_frames: int | None = None
    """Most frames that the codec decodes in one go; None is as many as are best."""
    codec_on_cpu: bool = False
    """The codec computes on the CPU, wherever the transformer does."""
    log_level: str = "INFO"

    def to_json(self) -> str:
        """The command line argument."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, argument: str) -> "WorkerConfig":
        """The configuration in a command line argument; `msgspec.ValidationError` if it is none."""
        return msgspec.json.decode(argument, type=cls)


class Speak(msgspec.Struct, frozen=True, tag="speak"):
    """Speak one sentence in the voice of `references`; answered by `Pcm`… then `Done` or `Failed`.

    Without references it is the checkpoint's own voice.
    """

    request_id: str
    text: str
    sampling: SamplingParams
    references: tuple[VoicePrompt, ...] = ()
    return_codes: bool = False
    """`Done` brings the codes that were spoken, so that what follows can be said in that voice."""
    trace_parent: str = ""
    """Of the span that it belongs to, as W3C writes it."""


class EncodeVoice(msgspec.Struct, frozen=True, tag="encode_voice"):
    """Decode and encode a recording, a whole audio file; answered by `Encoded` or `Failed`."""

    request_id: str
    audio: bytes
    trace_parent: str = ""
    """Of the span that it belongs to, as W3C writes it."""


class DecodeCodes(msgspec.Struct, frozen=True, tag="decode_codes"):
    """Let a voice be heard as it was recorded; answered by `Pcm`… then `Decoded`, or by `Failed`.

    At most `MAX_DECODED_S` of it.
    """

    request_id: str
    codes: ReferenceCodes
    trace_parent: str = ""
    """Of the span that it belongs to, as W3C writes it."""


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """Go on with these from now on, without reloading; answered by `Configured`."""

    num_threads: int
    cache_limit_mb: int


class ClearCaches(msgspec.Struct, frozen=True, tag="clear_caches"):
    """Give memory back that nobody needs now; answered by `Cleared`."""


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Give that request up; answered by `Failed` with code "aborted" unless it was over already."""

    request_id: str


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """Finish nothing, free everything, leave."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has loaded its checkpoint and can speak."""

    info: EngineInfo
    beats: bool = False
    """From now on it sends a `Beat` every `BEAT_S`; of a worker that does not, none is expected."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The process lives, and this is how far what speaks in it has got."""

    steps: int
    """Grows whenever it gets on."""
    busy_with: str
    """In words for a user; "" while it waits for something to do."""


class Pcm(msgspec.Struct, frozen=True, tag="pcm"):
    """Mono float32 little-endian samples, in order."""

    request_id: str
    samples: bytes


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The sentence is spoken whole."""

    request_id: str
    stats: SpeechStats
    codes: ReferenceCodes | None = None
    """What was spoken, where `Speak.return_codes` asked for it."""


class Encoded(msgspec.Struct, frozen=True, tag="encoded"):
    """The recording as codes."""

    request_id: str
    codes: ReferenceCodes


class Decoded(msgspec.Struct, frozen=True, tag="decoded"):
    """The codes are decoded whole."""

    request_id: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request cannot be spoken; `code` is that of a `backend.errors` class."""

    request_id: str
    code: str
    message: str
    step: str = ""
    """Of the ladder of a replica that goes on with less memory, see `errors.SteppedDown`."""


class Configured(msgspec.Struct, frozen=True, tag="configured"):
    """What the worker goes on with."""

    num_threads: int
    cache_limit_mb: int


class Cleared(msgspec.Struct, frozen=True, tag="cleared"):
    """The caches are empty."""

    freed_bytes: int


class WayState(msgspec.Struct, frozen=True, tag="way_state"):
    """In which way frames are computed from now on; at the start `Ready` tells it."""

    name: str
    """eager, graph, fused or native."""
    detail: str
    """Why, in words for a user."""

    @property
    def is_compiled(self) -> bool:
        """A compiler made its code for this machine."""
        return self.name in ("fused", "native")


class Starting(msgspec.Struct, frozen=True, tag="starting"):
    """What the worker does before it is ready, each time that this changes."""

    doing: str
    """In words for a user, after "it is"."""


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """What quantization cost, where that was not known at the start."""

    cost: QualityCost


class Load(msgspec.Struct, frozen=True, tag="load"):
    """How busy the worker is, sent whenever it changes."""

    running: int
    waiting: int
    cache_bytes: int = 0
    """Bytes of keys and values held."""
    memory_bytes: int = 0
    """What the worker holds of its GPU; 0 on a CPU, where the system knows better."""


Asked = Speak | EncodeVoice | DecodeCodes
"""What one request asks for: it has an answer, and can be aborted until then."""
ToWorker = Asked | Abort | Configure | ClearCaches | Shutdown
Answer = Pcm | Done | Encoded | Decoded
"""What a request is answered with; nothing follows any but `Pcm`."""
FromWorker = (
    Starting | Ready | Beat | Answer | Failed | Load | Configured | Cleared | WayState | Measured
)

T = TypeVar("T")


class MessageDecoder(Generic[T]):
    """Reads the messages of one direction."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)

    def decode(self, body: bytes | memoryview) -> T:
        """The message in `body`; `msgspec.DecodeError`, a ValueError, where it is none."""
        try:
            message: T = self._decoder.decode(body)
        except (RecursionError, UnicodeDecodeError) as error:  # msgspec lets both through
            raise msgspec.DecodeError(str(error)) from None
        return message


_encoder = msgspec.msgpack.Encoder()
to_worker_decoder: MessageDecoder[ToWorker] = MessageDecoder(ToWorker)
from_worker_decoder: MessageDecoder[FromWorker] = MessageDecoder(FromWorker)


def frame(*messages: ToWorker | FromWorker) -> bytearray:
    """The bytes that carry `messages` on the pipe; each is copied once."""
    framed = bytearray()
    for message in messages:
        start = len(framed) + _LENGTH.size
        framed += bytes(_LENGTH.size)
        _encoder.encode_into(message, framed, start)
        length = len(framed) - start
        if length > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {length} bytes is over {MAX_MESSAGE_BYTES}")
        _LENGTH.pack_into(framed, start - _LENGTH.size, length)
    return framed


def frame_length(header: bytes | bytearray, at: int = 0) -> int:
    """Length of the body that follows the four bytes of `header` from `at` on."""
    (length,) = _LENGTH.unpack_from(header, at)
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes is over {MAX_MESSAGE_BYTES}")
    return int(length)


def read_body(pipe: BinaryIO) -> bytes | None:
    """The next message's body from a blocking pipe, or None at its end."""
    header = pipe.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    body = pipe.read(frame_length(header))
    return body
