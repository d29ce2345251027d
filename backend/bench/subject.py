"""What is measured: a checkpoint, and the ways of holding its weights, each with its plan."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from backend.core import Quantization
from backend.hardware.deployment import Deployment
from backend.hardware.need import ELEMENT_BYTES, CheckpointShape
from backend.serving.launch import worker_command, worker_config, worker_environment
from backend.settings import Precision, Settings, load_settings
from backend.worker.messages import WorkerConfig

WEIGHTS: dict[str, tuple[Precision | None, Quantization]] = {
    "bf16": ("bf16", "none"),
    "int8": (None, "int8"),
    "int4": (None, "int4"),
    "fp32": ("fp32", "none"),
}
"""Ways of holding weights by their names, as the settings say them; None leaves it to the plan."""
UPSTREAM = "upstream"
_UPSTREAM_CONTEXT = 8192
"""Positions that the published package holds keys and values of, whatever is spoken."""
_RUNTIME_BYTES = 1 << 30
"""What a process takes beside its weights, generously."""


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint whose weights are held in one way, and how this machine would speak it."""

    name: str
    settings: Settings
    deployment: Deployment

    @classmethod
    def look(cls, name: str, folder: Path | None, device: str | None) -> "Held":
        """Plan it as a server does that is asked for those weights; raises what planning raises.

        The name "" leaves them to the plan.
        """
        precision, quantization = WEIGHTS.get(name, (None, None))
        settings = load_settings(
            model_dir=folder,
            device=device,
            precision=precision,
            quantization=quantization,
            engine="shoal",
            metrics=False,
        )
        deployment = Deployment.look(settings)
        return cls(name or name_of(deployment), settings, deployment)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes have beside our environment."""
        return worker_environment(self.deployment.plan)

    @property
    def resident_bytes(self) -> int:
        """Memory that its process is expected to take."""
        return self.deployment.resident_bytes

    def worker_command(self) -> tuple[str, ...]:
        """Starts its worker, as a server would."""
        return worker_command(self.settings, self.deployment.plan)

    def probe_command(self) -> tuple[str, ...]:
        """Starts a probe of it."""
        # Samples that choose clipping scales take long, and change no speed.
        told = msgspec.structs.replace(self._config(), calibration_samples=0)
        python = str(self.settings.worker_python)
        return (python, "-P", "-m", "backend.bench.probe", "--config", told.to_json())

    def upstream_config(self) -> WorkerConfig:
        """What the published package is told: the same device and threads, the weights in bf16."""
        return msgspec.structs.replace(self._config(), precision="bf16", quantization="none")

    def _config(self) -> WorkerConfig:
        return worker_config(self.settings, self.deployment.plan)


def name_of(deployment: Deployment) -> str:
    """The name in `WEIGHTS` of what the plan chose."""
    quantization = deployment.plan.quantization.value
    return deployment.plan.precision.value if quantization == "none" else quantization


def upstream_bytes(shape: CheckpointShape) -> int:
    """Memory that the published package is expected to take with a checkpoint, in bf16."""
    cache = _UPSTREAM_CONTEXT * shape.model.kv_bytes_per_frame(ELEMENT_BYTES["bf16"])
    return shape.weight_bytes("bf16", "none") + cache + _RUNTIME_BYTES


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    repeats: int = 5
    seconds: float = 1.0
    """That each measurement takes at least."""
    lives: int = 5
    """Workers that are started, each to speak once it is cold and once it is warm."""
    most_s: float = 60.0
    """After so long what is repeated is not begun again: a busy machine has fewer figures."""
    contexts: tuple[int, int] = (256, 4096)
    streams: int = 4
    read_mib: int = 512

    def quick(self) -> "Size":
        """The least that shows that everything works."""
        return replace(self, repeats=2, seconds=0.1, lives=1, read_mib=64)

    def within(self, context_tokens: int) -> "Size":
        """With contexts that a checkpoint has."""
        short, long = self.contexts
        long = min(long, context_tokens * 15 // 16)
        return replace(self, contexts=(min(short, long // 2), long))
