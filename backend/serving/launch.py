"""How a worker process is started: what it is told, by which command, in which environment."""

from backend.core import Plan
from backend.fish_worker.install import fish_worker_command
from backend.hardware.ladder import Footing
from backend.hardware.measured import LEAST_KEPT_AT_LOAD
from backend.hardware.pressure import RunningConfig
from backend.settings import Settings
from backend.worker.client import WorkerClient
from backend.worker.messages import WorkerConfig
from backend.worker.supervisor import supervised
from backend.worker.transport import Patience


def worker_process(settings: Settings, start_attempts: int | None = None) -> WorkerClient:
    """A worker process of this machine, which a lane tells what it is to be."""
    return supervised(
        patience=Patience(
            start_timeout_s=settings.worker_start_timeout_s,
            restart_delay_s=settings.restart_delay_s,
            restart_delay_max_s=settings.restart_delay_max_s,
            unresponsive_s=settings.worker_unresponsive_s,
            silent_s=settings.worker_silent_s,
            answer_s=settings.worker_answer_s,
            shutdown_grace_s=settings.shutdown_grace_s,
            start_attempts=start_attempts,
        )
    )


def worker_config(
    settings: Settings,
    plan: Plan,
    config: RunningConfig | None = None,
    footing: Footing | None = None,
) -> WorkerConfig:
    """What a worker is told; `config` and `footing` are what the plan has become."""
    config = config or RunningConfig.of(plan)
    footing = footing or Footing(plan, worker_rows=plan.max_batch.value)
    plan = footing.plan
    device, _, _ = plan.device.value.partition(":")
    is_quantized = plan.quantization.value != "none"
    return WorkerConfig(
        model_dir=str(settings.checkpoint_dir),
        device=device,  # which GPU, CUDA_VISIBLE_DEVICES says: the worker sees no other
        precision=plan.precision.value,
        may_fall_back=plan.device.source != "user",
        num_threads=config.num_threads,
        cpus=plan.cpu_affinity.value,
        quantization=plan.quantization.value,
        calibration_samples=plan.calibration_samples if is_quantized else 0,
        # What a small checkpoint is quantized for is speed; memory it would not want for.
        least_kept=LEAST_KEPT_AT_LOAD if plan.quantization.source == "checkpoint" else 0.0,
        try_compile=plan.compile.value,
        compile_dir=str(settings.data_dir / "compiled"),
        has_room_for_graphs=plan.fast_mb > 0,
        cache_limit_mb=config.cache_limit_mb if settings.memory_control else None,
        max_batch=footing.worker_rows,
        decode_frames=footing.decode_frames,
        codec_on_cpu=footing.codec_on_cpu,
        log_level=settings.log_level,
    )


def worker_command(
    settings: Settings,
    plan: Plan,
    config: RunningConfig | None = None,
    footing: Footing | None = None,
) -> tuple[str, ...]:
    """The command line that starts a worker, as `worker_config` says."""
    told = worker_config(settings, plan, config, footing)
    if settings.engine == "fish-speech":
        return fish_worker_command(settings, told)
    # -P: a folder called backend where the server is started must not stand in for ours.
    module = ("-P", "-m", "backend.worker.main")
    return (str(settings.worker_python), *module, "--config", told.to_json())


def worker_environment(plan: Plan) -> dict[str, str]:
    """What the worker's environment has beside ours: the one GPU it may see."""
    return {"CUDA_VISIBLE_DEVICES": plan.device_uuid} if plan.device_uuid else {}
