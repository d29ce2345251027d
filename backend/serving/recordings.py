"""Recordings to codes and back, in a request's turn, by another worker where one dies of it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from backend.audio.container import decoding_bytes
from backend.core import EngineInfo, ReferenceCodes
from backend.errors import EngineDown
from backend.hardware.memory import Demand
from backend.serving.lives import Lives
from backend.serving.references import Encode
from backend.serving.slots import AdmittedRequest, Speaker
from backend.worker.messages import DecodeCodes, EncodeVoice

T = TypeVar("T")

WORKERS = 2
"""How many workers may die under a recording: it may be what kills them, and those beside it."""


def encoder(admitted: AdmittedRequest, request_id: str, info: EngineInfo) -> Encode:
    """What encodes recordings for the request that was `admitted`."""

    async def encode(audio: bytes) -> ReferenceCodes:
        # How long the recording is, the worker will know; it uses no more of it than this.
        demand = Demand(
            *(1, 1),
            open_segments=1,
            encoded_s=info.max_reference_s,
            decoding_bytes=decoding_bytes(audio),
        )
        message = EncodeVoice(request_id, audio)
        return await _by_one(admitted, demand, lambda speaker: speaker.encode(message))

    return encode


async def decoded(admitted: AdmittedRequest, decode: DecodeCodes, info: EngineInfo) -> bytes:
    """The codes as float32 samples."""
    decoded_s = decode.codes.frames / info.frame_rate_hz
    demand = Demand(1, 1, open_segments=1, decoded_s=decoded_s)
    return await _by_one(admitted, demand, lambda speaker: speaker.decode(decode))


async def _by_one(
    admitted: AdmittedRequest, demand: Demand, work: Callable[[Speaker], Awaitable[T]]
) -> T:
    """What a worker makes of it; of one that dies meanwhile, another or the next."""
    lives = Lives(WORKERS)
    slot = await admitted.slot(demand, "encode")
    try:
        while True:
            try:
                return await work(slot.station.speaker)
            except EngineDown as error:
                lives.lose(error)
                slot = await admitted.placed(slot)
    finally:
        slot.release()
