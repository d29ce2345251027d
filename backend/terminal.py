"""How a command tells what went wrong: one line and an exit code, never a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console

from backend.errors import ShoalError

stderr = Console(stderr=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the command with what a domain error says."""
    try:
        yield
    except ShoalError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the command with `message`."""
    stderr.print(f"shoal: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
