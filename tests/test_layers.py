"""Who may import whom, as MDs/ARCHITECTURE.md says; read from the source, nothing is imported."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKER_MAIN = {"engine", "codec", "model", "native", "audio", "hardware.affinity", "heap"}
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "errors": set(),
    "languages": {"core", "errors"},
    "native": set(),
    "model": {"core", "errors", "native"},
    "settings": {"core", "errors"},
    "text": {"core", "errors"},
    "audio": {"core", "errors"},
    "voices": {"core", "errors", "regular_file"},
    "regular_file": set(),
    "version": set(),
    "logs": set(),
    "watch": set(),
    "heap": set(),
    "spans": set(),
    "pdh": set(),
    "thermometer": {"pdh"},
    "nvml": {"watch"},
    "hardware": {
        *("core", "errors", "settings", "model.config", "model.reading", "native.compiler"),
        *("nvml", "thermometer", "watch", "regular_file", "version"),
    },
    "hardware.affinity": {"core", "errors"},
    "learning": {
        *("core", "errors", "hardware.measurements", "model.reading", "monitoring.files"),
        "regular_file",
    },
    "learning.case": {"core", "model.reading"},
    "monitoring": {
        "learning.case",
        "core",
        "errors",
        "settings",
        "nvml",
        "regular_file",
        "spans",
        "thermometer",
    },
    "report": {"errors", "monitoring"},
    "bench": {
        *("core", "errors", "settings", "serving.launch"),
        *("hardware.deployment", "hardware.detect", "hardware.need", "fish_worker.install"),
        *("worker.client", "worker.supervisor", "worker.messages", "worker.process"),
    },
    "bench.messages": set(),
    "bench.stopwatch": set(),
    "bench.random_checkpoint": {"model"},
    "bench.probe": {"errors", "logs", "worker.main", "worker.messages"},
    "bench.computing": {"core", "codec", "engine", "worker.loaded", "worker.messages"},
    "bench.upstream": {"errors", "logs", "fish_worker.main", "worker.messages"},
    "bench.upstream_speaking": {"core", "fish_worker.loaded_package", "worker.messages"},
    "monitoring.fish_log": {"core", "errors"},
    "fish_worker.install": {"core", "errors", "settings", "worker.messages"},
    "fish_worker": {
        *("core", "errors", "logs", "audio", "monitoring.fish_log"),
        *("worker.messages", "worker.pipe", "worker.device", "worker.process_memory"),
        *("hardware.affinity", "hardware.need", "model.config", "model.tokenizer", "engine.prompt"),
    },
    "engine": {"core", "errors", "logs", "model", "native"},
    "codec": {"core", "errors", "model", "native"},
    "worker.messages": {"core", "errors"},
    "worker.process": {"core", "errors"},
    "worker.transport": {"core", "errors"},
    "worker.client": {"core", "errors"},
    "worker.supervisor": {"core", "errors", "logs"},
    "worker.pulse": {"core", "errors"},
    "worker.asked_span": {"core", "spans"},
    "worker.pipe": {"core", "errors", "logs", "spans"},
    "worker": {"core", "errors", "logs"} | WORKER_MAIN,
    "serving": set(),
    "serving.speed": set(),
    "serving.fair_thread": set(),
    "serving.quiet": set(),
    "serving.tasks": set(),
    "serving.tidying": {"heap"},
    "serving.slots": {"core", "errors", "hardware", "worker.messages"},
    "serving.stations": {"errors", "hardware"},
    "serving.spoken_voices": {"core"},
    "serving.lives": {"errors"},
    "serving.demand": {"core", "audio", "hardware", "model.reading", "worker.messages"},
    "serving.admission": {"core", "errors", "hardware"},
    "serving.foresight": {
        *("core", "errors", "settings", "hardware", "learning", "monitoring.rows"),
    },
    "serving.given": {"core", "errors", "hardware", "learning.case"},
    "serving.cooling": {"errors", "hardware", "thermometer"},
    "serving.costs": {"core"},
    "serving.outlook": {"core", "hardware"},
    "serving.script": {"core", "errors", "text"},
    "serving.references": {"core", "errors", "settings", "text", "voices", "model.config"},
    "serving.backlog": {"errors"},
    "serving.sentence": {"core", "errors", "audio", "hardware", "worker.messages"},
    "serving.session": {
        *("core", "errors", "audio", "text", "hardware", "worker.messages"),
        "learning.case",
    },
    "serving.launch": {
        *("core", "settings", "fish_worker.install", "hardware"),
        *("worker.client", "worker.messages", "worker.supervisor", "worker.transport"),
    },
    "serving.lane": {
        *("core", "errors", "settings", "hardware"),
        *("worker.client", "worker.messages"),
    },
    "serving.fleet": {"core", "errors", "settings", "hardware"},
    "serving.recordings": {"core", "errors", "hardware", "worker.messages"},
    "serving.estimate": {"core", "hardware"},
    "serving.cpu_lane": {"errors", "settings", "hardware"},
    "serving.shortage": {"core", "errors", "hardware", "worker.client", "worker.messages"},
    "serving.resting": {"core", "worker.client"},
    "serving.intake": {
        *("core", "errors", "settings", "hardware", "model.reading", "worker.messages"),
        "learning.case",
    },
    "tuning": {
        *("core", "errors", "settings", "logs", "hardware"),
        *("serving.fleet", "serving.launch", "serving.tasks"),
        *("worker.client", "worker.messages", "worker.supervisor"),
    },
    "smart_backend": {
        *("core", "errors", "settings", "voices", "hardware", "monitoring", "worker.client"),
        *("serving", "shown", "tuning.server"),
    },
    "shown": {"core", "hardware", "monitoring.sample", "serving"},
    "api": {
        *("core", "errors", "languages", "settings", "audio", "voices"),
        *("monitoring", "serving.outlook", "serving.session", "serving.tasks", "smart_backend"),
        *("listening", "logs", "version"),
    },
    "connections": {"core", "errors", "settings", "listening", "faces", "api.arrival"},
    "listening": {"errors"},
    "tether": set(),
    "terminal": {"errors"},
    "server_status": {"errors", "listening", "logs"},
    "faces": {"errors", "listening"},
    "app": {
        "core",
        "errors",
        "settings",
        "api",
        "serving.fleet",
        "hardware.deployment",
        "listening",
        "smart_backend",
        "version",
    },
    "cluster": {
        *("core", "errors", "settings", "logs", "audio", "model.reading", "thermometer"),
        *("hardware", "serving", "app", "api.guard", "api.rates", "spans"),
        *("worker.asked_span", "worker.client", "worker.messages", "worker.transport"),
    },
    "cli": {
        *("core", "errors", "languages", "settings", "audio", "smart_backend", "app", "ui"),
        *("api.guard", "bench.command", "tuning.terminal"),
        *("hardware", "report", "fish_worker.install", "faces", "listening", "logs", "connections"),
        *("server_status", "terminal", "heap"),
    },
    "ui": set(),
}
"""Of each room, the rooms it may import; itself always. The longest name that fits counts."""
TORCH_ROOMS = ("native", "model", "engine", "codec", "worker", "fish_worker", "bench")
TORCH_FREE = (
    *(
        "model.config",
        "model.reading",
        "native.compiler",
        "worker.client",
        "worker.messages",
        "worker.process",
        "worker.supervisor",
        "worker.transport",
        "worker.pulse",
        "worker.pipe",
        "worker.asked_span",
        "worker.main",
        "fish_worker.install",
    ),
    *("bench.command", "bench.run", "bench.life", "bench.partner", "bench.subject"),
    *("bench.figures", "bench.report", "bench.messages", "bench.stopwatch"),
    *("bench.probe", "bench.upstream"),
)


def modules() -> dict[str, ast.Module]:
    """The syntax tree of each module, by its name without "backend."."""
    files = [*(ROOT / "backend").rglob("*.py"), *(ROOT / "ui").rglob("*.py")]
    found = {}
    for file in files:
        parts = list(file.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts[0] == "backend":
            parts.pop(0)
        if parts:
            found[".".join(parts)] = ast.parse(file.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imported(tree: ast.AST) -> set[str]:
    """Full names of what is imported, `from a import b` as both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def ours(tree: ast.AST) -> set[str]:
    """Our own modules among the imported, named as in MODULES."""
    return {name.removeprefix("backend.") for name in imported(tree)} & MODULES.keys()


def is_within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def rule_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if is_within(module, room)), key=len, default="")


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_its_room_may(module: str) -> None:
    rule = rule_of(module)
    assert rule, f"{module} belongs to no room: add it to MAY_IMPORT and MDs/ARCHITECTURE.md"
    room = rule.split(".")[0]
    allowed = {*MAY_IMPORT[rule], room}
    for name in ours(MODULES[module]) - {module}:
        is_package = any(other.startswith(name + ".") for other in MODULES)
        if is_package and not ours_is_code(name):
            continue  # `from backend.api import tts` names the package on its way to the module
        assert any(is_within(name, other) for other in allowed), f"{module} imports {name}"


def ours_is_code(package: str) -> bool:
    return bool(MODULES[package].body)


def test_no_import_cycle() -> None:
    graph = {module: ours(tree) - {module} for module, tree in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("module", MODULES)
def test_no_import_within_a_function(module: str) -> None:
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not ours(node), f"{module}: {node.name}() imports {ours(node)}"


@pytest.mark.parametrize("module", MODULES)
def test_torch_stays_in_its_rooms(module: str) -> None:
    may = module not in TORCH_FREE and module.partition(".")[0] in TORCH_ROOMS
    roots = {name.split(".")[0] for name in imported(MODULES[module])}
    assert may or not roots & {"torch", "torchaudio", "safetensors"}


def test_no_file_is_two_rooms() -> None:
    rooms = (ROOT / "backend", ROOT / "ui")
    files = [
        file for room in rooms for kind in ("py", "js", "css") for file in room.rglob(f"*.{kind}")
    ]
    assert files
    for file in files:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, f"{file} wants to be two"


UI_MODULES = [module for module in MODULES if is_within(module, "ui")]


def reach_of(module: str) -> set[str]:
    """It and everything of ours that it brings along."""
    seen: set[str] = set()
    ahead = {module}
    while ahead:
        seen |= ahead
        ahead = {name for each in ahead for name in ours(MODULES[each])} - seen
    return seen


def roots_of(modules: set[str]) -> set[str]:
    """The libraries that they import."""
    return {name.split(".")[0] for module in modules for name in imported(MODULES[module])}


@pytest.mark.parametrize("module", UI_MODULES)
def test_pages_know_a_server_by_http_alone(module: str) -> None:
    names = imported(MODULES[module])
    roots = {name.split(".")[0] for name in names}
    assert "backend" not in roots
    for library, may in {"httpx": "ui.client", "websockets": "ui.live"}.items():
        assert library not in roots or module == may, f"{module} imports {library}"
    assert not roots & {"torch", "torchaudio", "requests", "urllib3", "aiohttp", "http"}
    assert not {name for name in names if is_within(name, "urllib.request")}


def test_neither_page_brings_the_other_along() -> None:
    """Nor does what both share: each library is in the modules of its page alone."""
    gradio, streamlit = reach_of("ui.gradio_app"), reach_of("ui.streamlit_app")
    assert "gradio" in roots_of(gradio) and "streamlit" in roots_of(streamlit)
    assert "streamlit" not in roots_of(gradio) and "gradio" not in roots_of(streamlit)
    needed = {module for module in UI_MODULES if ours_is_code(module)} - {"ui"}
    assert needed <= gradio | streamlit, "a module that no page needs"


RAY_MODULES = {"application", "command", "deployments", "handles", "nodes", "router"}


@pytest.mark.parametrize("module", MODULES)
def test_ray_stays_in_its_room(module: str) -> None:
    """And there in few modules: what decides is tested without it."""
    roots = {name.split(".")[0] for name in imported(MODULES[module])}
    assert "ray" not in roots or module in {f"cluster.{name}" for name in RAY_MODULES}


def test_plain_server_never_imports_ray() -> None:
    code = "import sys, backend.app, backend.cli; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_http_process_never_imports_torch() -> None:
    code = "import sys, backend.app, backend.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
