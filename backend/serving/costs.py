"""What the sentences of a request cost together."""

from collections.abc import Sequence
from dataclasses import replace

from backend.core import SpeechStats

_NOTHING = SpeechStats(
    prompt_tokens=0,
    frames=0,
    generated_tokens=0,
    audio_s=0.0,
    prefill_s=0.0,
    decode_s=0.0,
    first_audio_s=0.0,
    total_s=0.0,
    fish_bandwidth_gb_s=0.0,
    weight_read_gb_s=0.0,
    peak_memory_mb=0.0,
    segments=0,
    finish_reasons=(),
)
"""What silence costs."""


def sum_of(costs: Sequence[SpeechStats], total_s: float) -> SpeechStats:
    """What sentences that were spoken within `total_s` cost together; nothing for none."""
    total = _together(costs or [_NOTHING])
    if len(costs) < 2 or total_s <= 0:
        return total
    # Sentences side by side share steps: what they read together, they read in the whole time.
    return replace(
        total,
        fish_bandwidth_gb_s=sum(
            cost.fish_bandwidth_gb_s * (cost.prefill_s + cost.decode_s) for cost in costs
        )
        / total_s,
        weight_read_gb_s=sum(cost.weight_read_gb_s * cost.decode_s for cost in costs) / total_s,
    )


def _together(costs: Sequence[SpeechStats]) -> SpeechStats:
    """Counts and times summed, peaks kept, what stands for no sum from the last."""
    last = costs[-1]
    return replace(
        last,
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        frames=sum(cost.frames for cost in costs),
        generated_tokens=sum(cost.generated_tokens for cost in costs),
        prefill_s=sum(cost.prefill_s for cost in costs),
        decode_s=sum(cost.decode_s for cost in costs),
        first_audio_s=costs[0].first_audio_s,
        peak_memory_mb=max(cost.peak_memory_mb for cost in costs),
        segments=sum(cost.segments for cost in costs),
        finish_reasons=tuple(reason for cost in costs for reason in cost.finish_reasons),
        retries=sum(cost.retries for cost in costs),
        workers=tuple(dict.fromkeys(name for cost in costs for name in cost.workers)),
        memory_step=next((cost.memory_step for cost in costs[::-1] if cost.memory_step), ""),
        fish_generation_time_s=(
            None
            if last.fish_generation_time_s is None
            else sum(cost.fish_generation_time_s or 0.0 for cost in costs)
        ),
    )
