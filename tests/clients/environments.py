"""An environment of its own for each client, in `.work/clients`, made once and again when its row
in the roster changes. `rm -r .work/clients` brings the newest versions."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.clients.roster import CLIENTS, Client
from tests.documents import ROOT

HOME = ROOT / ".work" / "clients"
PROGRAMS = ROOT / "tests" / "clients" / "programs"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
ASKED = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
VERSION = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


class Missing(Exception):
    """The environment cannot be made on this machine; the text says why."""


def packages(home: str) -> tuple[str, ...]:
    """What all clients of an environment need together."""
    return tuple(
        dict.fromkeys(each for client in CLIENTS if client.home == home for each in client.packages)
    )


def made(client: Client) -> Path:
    """The folder of its environment, installed."""
    folder = HOME / client.home
    wanted = json.dumps(packages(client.home))
    stamp = folder / "installed.json"
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install = _install_python if client.runs_on == "python" else _install_node
        install(client, folder)
        stamp.write_text(wanted, "utf-8")
    return folder


def command(client: Client, folder: Path) -> list[str]:
    """What starts the client's program."""
    if client.runs_on == "node":
        # A module finds its packages beside itself, so the programs are copied to them.
        for program in PROGRAMS.glob("*.mjs"):
            shutil.copy(program, folder)
        return [_tool("node"), str(folder / f"{client.program}.mjs")]
    return [str(_interpreter(folder)), "-m", f"tests.clients.programs.{client.program}"]


def version(client: Client) -> str:
    """Of the package that stands first in its row."""
    folder = HOME / client.home
    name = client.packages[0].replace("@", ">").partition(">")[0].partition("[")[0]
    if client.runs_on == "node":
        package = json.loads((folder / "node_modules" / name / "package.json").read_text("utf-8"))
        return str(package["version"])
    return _run([str(_interpreter(folder)), "-c", VERSION, name]).strip()


def _interpreter(folder: Path) -> Path:
    return folder / SCRIPTS / "python"


def _install_python(client: Client, folder: Path) -> None:
    _run([_python(client.python), "-m", "venv", str(folder)])
    pip = [str(_interpreter(folder)), "-m", "pip", "--disable-pip-version-check", "install"]
    _run([*pip, "--quiet", *packages(client.home)])


def _install_node(client: Client, folder: Path) -> None:
    (folder / "package.json").write_text('{"private": true}', "utf-8")
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts"]
    _run([_tool("npm"), "install", *quiet, *packages(client.home)], folder)


def _python(oldest: tuple[int, int]) -> str:
    """This interpreter, or one of this machine that is new enough."""
    if sys.version_info[:2] >= oldest:
        return sys.executable
    for candidate in _pythons():
        asked = subprocess.run(
            [candidate, "-c", ASKED], check=False, capture_output=True, text=True
        )
        if asked.returncode == 0 and tuple(map(int, asked.stdout.split())) >= oldest:
            return candidate
    raise Missing(f"needs Python {oldest[0]}.{oldest[1]}, which is not on this machine")


def _pythons() -> Iterator[str]:
    for minor in range(14, 10, -1):
        if found := shutil.which(f"python3.{minor}"):
            yield found
    pyenv = Path.home() / ".pyenv" / "versions"
    yield from map(str, sorted(pyenv.glob("3.*/bin/python3"), reverse=True))


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not on this machine")
    return found


def _run(asked: list[str], folder: Path = ROOT) -> str:
    done = subprocess.run(asked, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{Path(asked[0]).name} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
