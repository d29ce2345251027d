"""Runs a module as `python -m` does, and ends it when the process that started it is gone.

`python -m backend.tether ui.gradio_app`, with a pipe as its stdin that the other process holds
open: the system closes that however the other ends, on every system.
"""

import _thread
import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence

GRACE_S = 3.0
"""From being interrupted to the end of its own accord; then it is ended."""
INTERRUPTED = 130
"""The exit code that shells expect after Ctrl-C."""


def run(arguments: Sequence[str]) -> None:
    """Run the module that `arguments` begin with; the others are its own."""
    # The process that started us may ignore it, as a shell does for what runs in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True, name="tether").start()
    sys.argv = list(arguments)
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        # Not sys.stdin: the interpreter could not end while we hold its lock.
        while os.read(0, 1024):
            pass
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:  # to that thread, or it would go on waiting for whatever it waits for
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    run(sys.argv[1:])
