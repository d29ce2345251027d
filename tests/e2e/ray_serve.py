"""`deploy/serve.yaml` on a cluster of Ray of its own, as a user deploys it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tests.e2e.serving import begin_with_compiled

ROOT = Path(__file__).parents[2]
RAY = """
import ray, sys
print(ray.init(include_dashboard=False, num_cpus=int(sys.argv[1]), object_store_memory=2**28,
    _node_ip_address="127.0.0.1").address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def ray_cluster(
    environment: Mapping[str, str] = MappingProxyType({}), *, cpus: int = 6
) -> Iterator[dict[str, str]]:
    """A cluster of Ray on this machine, with `environment`; what says where it is."""
    told = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        # On two cores that others use, too, a proxy is ready later than Serve's 5 s, and replaced.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        **environment,
    }
    with subprocess.Popen(
        (sys.executable, "-c", RAY, str(cpus)),
        env=os.environ | told,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as head:
        assert head.stdout is not None
        yield told | {"RAY_ADDRESS": head.stdout.readline().strip()}
        head.communicate(timeout=60)  # closes its stdin, at which it ends


def deploy(
    ray: dict[str, str],
    folder: Path,
    port: int,
    *,
    ingresses: int = 1,
    replicas: int = 2,
    application: str = "backend.cluster:app",
    args: dict[str, Any] | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """So many ingresses at `port` before so many replicas, with `settings`."""
    begin_with_compiled(folder)
    config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/serve.yaml").read_text("utf-8"))
    config["http_options"]["port"] = port
    (shoal,) = config["applications"]
    shoal["import_path"], shoal["args"] = application, args or shoal["args"]
    told = {"SHOAL_WORKERS": str(replicas), "SHOAL_DATA_DIR": str(folder)}
    shoal["runtime_env"]["env_vars"] |= told | dict(settings)
    front, engines = shoal["deployments"]
    front["num_replicas"] = ingresses
    engines.pop("autoscaling_config")
    if shoal["args"].get("kinds") == "gpu":
        engines |= {"name": "EngineGpu", "ray_actor_options": {"num_gpus": 1, "num_cpus": 1}}
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    command = (sys.executable, "-m", "ray.serve.scripts", "run", "--non-blocking", str(file))
    done = subprocess.run(
        command, check=False, env=os.environ | ray, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
