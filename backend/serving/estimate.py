"""What speaking a text would take, before anything is spoken, and what would help."""

from dataclasses import asdict
from typing import Any

from backend.core import SpeechRequest
from backend.hardware.memory import CLEARLY_LESS_SHARE, Demand, MemoryEstimate
from backend.serving.cpu_lane import CpuLane
from backend.serving.intake import Intake
from backend.serving.lane import Lane
from backend.serving.outlook import Outlook


async def estimate_json(
    request: SpeechRequest, intake: Intake, lane: Lane, cpu_lane: CpuLane
) -> dict[str, Any]:
    """The answer of `POST /estimate-memory`; `lane` stands for all that may speak it."""
    memory = lane.memory
    outlook, demand = await intake.preview(request)
    estimate = memory.estimate(request.text, demand)
    answer: dict[str, Any] = {"status": "ok", "estimate": asdict(estimate)}
    if not estimate.safe:
        longest = memory.longest_safe(demand)
        advice = f"Send at most {longest} characters." if longest else "Close other programs."
        answer |= {"status": "warning", "recommendation": advice}
    mends = _mends(request, outlook, demand, estimate, lane)
    is_beside = lane.plan.device_uuid and intake.is_here
    if not estimate.safe and is_beside and await cpu_lane.fits(demand):
        mends["force_cpu"] = True
    told = [{"field": field, "value": value} for field, value in mends.items()]
    return answer | outlook.figures() | {"mends": told}


def _mends(
    request: SpeechRequest,
    outlook: Outlook,
    demand: Demand,
    estimate: MemoryEstimate,
    lane: Lane,
) -> dict[str, str | bool]:
    """The fields that would help `request` there, and their values."""
    mends: dict[str, str | bool] = {}
    if outlook.text_limit.is_truncated:
        mends["long_text"] = "split"
    if not (estimate.safe or request.optimize_for_memory):
        small = lane.memory.estimate(request.text, demand.least())
        if small.safe or small.estimated_mb < CLEARLY_LESS_SHARE * estimate.estimated_mb:
            mends["optimize_for_memory"] = True
    return mends
