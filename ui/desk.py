"""The page's process as Streamlit's scripts see it: they run in threads, its work in one loop."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from streamlit import runtime

from ui.process import PageProcess
from ui.setup import read_setup
from ui.speaking.take import Take

_T = TypeVar("_T")
_LOOK_S = 0.2
_GRACE_S = 0.7
"""A tab that is gone so long is closed, not just being connected again."""


class Desk:
    """Takes orders from threads. One loop owns every connection to the server and every take."""

    def __init__(self, process: PageProcess) -> None:
        self.process = process
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = threading.Lock()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work is done in `loop` from now on."""
        self._loop = loop

    def ask(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` gives; it is done in the loop, and this thread waits for it."""
        with self._opening:
            if self._loop is None:  # no server around the script: it is being tested
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="desk", daemon=True).start()
                self.open(loop)
        assert self._loop is not None
        future: Future[_T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def do(self, function: Callable[..., _T], *given: Any) -> _T:
        """What `function` gives, called in the loop: for what only one thread may touch."""

        async def call() -> _T:
            return function(*given)

        return self.ask(call())

    def watch(self, session: str, take: Take) -> None:
        """The take is to end with the tab whose session it is."""
        self.process.watch(session, take)

    async def mind(self) -> None:
        """Stop what is spoken for tabs that were closed; never ends by itself."""
        gone_s: dict[str, float] = {}
        while True:
            await asyncio.sleep(_LOOK_S)
            here = [each for each in self.process.tabs() if _is_open(each)]
            gone_s = {
                tab: gone_s.get(tab, 0.0) + _LOOK_S
                for tab in self.process.tabs()
                if tab not in here
            }
            for tab, seconds in gone_s.items():
                if seconds >= _GRACE_S:
                    await self.process.leave(tab)


def _is_open(session: str) -> bool:
    return runtime.exists() and runtime.get_instance().is_active_session(session)


@functools.cache
def desk() -> Desk:
    """The one of this process; raises `BadSetup`."""
    return Desk(PageProcess(read_setup()))
