"""Whether a worker lives and gets on, in the server's own waking time."""

from dataclasses import dataclass

from backend.worker.messages import Beat, FromWorker


@dataclass(slots=True)
class Pulse:
    """For how long a worker has said nothing, and for how long it was busy and got no further.

    The calls of `tick` are counted, not the clock: while the machine slept, or the server itself
    was held up, the worker could not be heard, whatever it did.
    """

    silent_s: float = 0.0
    stuck_s: float = 0.0
    busy_with: str = ""
    """As its last `Beat` told."""
    _steps: int = 0

    def hear(self, message: FromWorker) -> None:
        """Take in what the worker said; anything is a sign of life, a `Beat` may tell progress."""
        self.silent_s = 0.0
        if isinstance(message, Beat):
            if message.steps != self._steps or not message.busy_with:
                self.stuck_s = 0.0
            self._steps, self.busy_with = message.steps, message.busy_with

    def tick(self, tick_s: float) -> None:
        """The server was awake for `tick_s` more."""
        self.silent_s += tick_s
        self.stuck_s = self.stuck_s + tick_s if self.busy_with else 0.0
