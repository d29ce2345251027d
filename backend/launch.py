"""Which program speaks, what it is told, and what it finds around it."""

from backend.core import Plan
from backend.environment import fish_worker_command
from backend.hardware.pressure import RunningConfig
from backend.settings import Settings
from backend.worker.messages import WorkerConfig


def worker_command(
    settings: Settings, plan: Plan, config: RunningConfig | None = None
) -> tuple[str, ...]:
    """The command line that starts a worker; `config` is what the plan has become."""
    config = config or RunningConfig.of(plan)
    device, _, _ = plan.device.value.partition(":")
    is_quantized = plan.quantization.value != "none"
    told = WorkerConfig(
        model_dir=str(settings.checkpoint_dir),
        device=device,  # which GPU, CUDA_VISIBLE_DEVICES says: the worker sees no other
        precision=plan.precision.value,
        may_fall_back=plan.device.source != "user",
        num_threads=config.num_threads,
        cpus=plan.cpu_affinity.value,
        quantization=plan.quantization.value,
        calibration_samples=plan.calibration_samples if is_quantized else 0,
        try_compile=plan.compile.value,
        compile_dir=str(settings.data_dir / "compiled"),
        cache_limit_mb=config.cache_limit_mb,
        max_batch=settings.max_batch,
        log_level=settings.log_level,
    )
    if settings.engine == "fish-speech":
        return fish_worker_command(settings, told)
    # -P: a folder called backend where the server is started must not stand in for ours.
    module = ("-P", "-m", "backend.worker.main")
    return (str(settings.worker_python), *module, "--config", told.to_json())


def worker_environment(plan: Plan) -> dict[str, str]:
    """What the worker's environment has beside ours: the one GPU it may see."""
    return {"CUDA_VISIBLE_DEVICES": plan.device_uuid} if plan.device_uuid else {}
