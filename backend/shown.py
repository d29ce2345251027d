"""What the routes show of the machine and of the workers."""

from typing import Any

from backend.core import MIB, Plan
from backend.hardware.deployment import Deployment
from backend.hardware.report import config_json, hardware_json, plan_json
from backend.monitoring.sample import WorkerNow
from backend.serving.fleet import Fleet
from backend.serving.lane import Lane
from backend.serving.references import References


def machine_json(fleet: Fleet, deployment: Deployment) -> dict[str, Any]:
    """The machine and the plan: `GET /hardware` but for what was measured."""
    lane = fleet.lead
    return {
        "hardware_profile": hardware_json(lane.deployment.hardware),
        "selected_configuration": plan_json(lane.plan),
        **fleet.planned(deployment),
        "running_configuration": {
            **config_json(lane.config),
            "way": lane.running_plan.way or None,
        },
    }


def health_json(fleet: Fleet, plan: Plan, references: References) -> dict[str, Any]:
    """What `GET /health` says beside the worker's state; waits for nothing."""
    lane, queue = fleet.lead, fleet.admission
    way = lane.worker.way_state
    return {
        "cache_stats": {
            "kv_cache_mb": round(fleet.cache_bytes / MIB, 2),
            "cache_limit_mb": lane.config.cache_limit_mb,
            "leased_mb": round(fleet.leased_bytes / MIB, 2),
            "reference_cache_mb": round(references.cache.held_bytes / MIB, 2),
            "references_encoded": references.encoded,
        },
        "queue": {
            "speaking": queue.speaking,
            "waiting": queue.waiting,
            "characters_ahead": queue.characters_ahead,
            "characters_per_s": round(queue.characters_per_s, 1),
        },
        "hardware_profile": hardware_json(lane.deployment.hardware),
        "current_resources": lane.usage.load(),
        "smart_insights": [*plan.notes, *([way.detail] if way and way.detail else [])],
    }


def worker_now(lane: Lane, fleet: Fleet) -> WorkerNow:
    """How one of the workers is."""
    replica, node = fleet.place(lane)
    return WorkerNow(
        worker=fleet.number(lane),
        device=lane.plan.device.value,
        ready=lane.worker.state.phase == "ready",
        restarts=lane.worker.state.restarts,
        memory_mb=lane.memory_now().worker_bytes / MIB,
        speaking=fleet.admission.at_work(lane),
        rows=lane.rows,
        cache_mb=lane.worker.load.cache_bytes / MIB,
        leased_mb=lane.memory.leased_bytes / MIB,
        thermal_level=lane.cooling.level,
        memory_level=lane.shortage.level,
        replica=replica,
        node=node,
    )
