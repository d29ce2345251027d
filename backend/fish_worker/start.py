"""Runs a module of ours under the interpreter of another environment, in which Shoal is not.

    python -I …/backend/fish_worker/start.py backend.fish_worker.main --config …

Only `backend` becomes importable, from where this file lies: the packages beside it, which may be
the server's, stay out of that environment.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

BACKEND = Path(__file__).resolve().parents[1]


def make_importable(folder: Path) -> None:
    """Let `import backend` find `folder`, wherever it lies."""
    spec = importlib.util.spec_from_file_location(
        folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[folder.name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    make_importable(BACKEND)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
