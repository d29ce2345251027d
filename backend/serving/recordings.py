"""Recordings to codes and back, in a request's turn, by another worker where one dies of it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from backend.core import EngineInfo, ReferenceCodes
from backend.errors import EngineDown
from backend.hardware.memory import Demand
from backend.serving.demand import demand_of
from backend.serving.lives import Lives
from backend.serving.references import Encode
from backend.serving.slots import AdmittedRequest, Speaker
from backend.worker.messages import DecodeCodes, EncodeVoice

T = TypeVar("T")

WORKERS = 2
"""How many workers may die under a recording: it may be what kills them, and those beside it."""


def encoder(
    admitted: AdmittedRequest, request_id: str, info: EngineInfo, trace_parent: str = ""
) -> Encode:
    """What encodes recordings for the request that was `admitted`."""

    async def encode(audio: bytes) -> ReferenceCodes:
        message = EncodeVoice(request_id, audio, trace_parent)
        demand = demand_of(message, info)
        return await _by_one(admitted, demand, lambda speaker: speaker.encode(message))

    return encode


async def decoded(admitted: AdmittedRequest, decode: DecodeCodes, info: EngineInfo) -> bytes:
    """The codes as float32 samples."""
    return await _by_one(admitted, demand_of(decode, info), lambda speaker: speaker.decode(decode))


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
