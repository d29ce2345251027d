"""One request whose body is on its way."""

from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from backend.connections.quota import Holding
from backend.errors import ShoalError


@dataclass(slots=True, eq=False)
class Arrival:
    """What has come of the body, what it holds, and what went wrong with it."""

    holding: Holding
    cycle: RequestResponseCycle | None = None
    received_bytes: int = 0
    is_whole: bool = False
    is_cut: bool = False
    """The client will send no more of it."""
    problem: ShoalError | None = None
    """What its reader is told instead of the body."""

    def wake(self) -> None:
        """Let its reader look again."""
        assert self.cycle is not None
        self.cycle.message_event.set()

    def fail(self, problem: ShoalError) -> None:
        """Tell its reader `problem`; what has arrived is dropped."""
        assert self.cycle is not None
        self.problem = problem
        self.cycle.body = bytearray()
        self.wake()

    def disconnect(self) -> None:
        """Nobody reads an answer."""
        assert self.cycle is not None
        self.cycle.disconnected = True
        self.wake()
