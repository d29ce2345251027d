"""Fewer threads before a CPU throttles, and all of them again once it is cool."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from loguru import logger

from backend.errors import ShoalError
from backend.hardware.thermal import HORIZON_S, Governor, ladder
from backend.serving.tasks import end
from backend.thermometer import Heat

TICK_S, IDLE_TICK_S = 1.0, 2.0
"""Between two looks while something is spoken, and while nothing is."""


class Cooling:
    """Looks at the heat of what one worker computes on, and says how many threads it may use.

    Rows are not touched: what fewer of them lose is more than what they cool. On a GPU, whose
    heat does not come from threads, it therefore only predicts.
    """

    def __init__(
        self,
        heat: Callable[[], Heat | None],
        planned_threads: int,
        is_busy: Callable[[], bool],
        changed: Callable[[], Awaitable[None]],
        *,
        may_lower: bool,
        throttles_at_c: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is awaited once `threads` is another; `throttles_at_c` is the user's figure in
        place of the sensor's."""
        self._heat, self._is_busy, self._changed, self._clock = heat, is_busy, changed, clock
        self._throttles_at_c = throttles_at_c
        self._ladder = ladder(planned_threads) if may_lower else (planned_threads,)
        self._governor = Governor(len(self._ladder) - 1)
        self.steps_back = 0
        """Times that something was lowered."""
        self._task: asyncio.Task[None] | None = None

    @property
    def threads(self) -> int:
        """As many may compute now."""
        return self._ladder[self._governor.level]

    @property
    def level(self) -> int:
        """Steps that it stands back now."""
        return self._governor.level

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._task = asyncio.create_task(self._run(), name="cooling")

    async def close(self) -> None:
        """Look no more."""
        await end(self._task)

    async def tick(self) -> None:
        """Look once, and go by it."""
        heat, was, level = self._heat(), self.threads, self.level
        if heat is not None and self._throttles_at_c is not None and heat.temperature_c is not None:
            heat = replace(heat, throttles_at_c=self._throttles_at_c, pressure=None)
        self._governor.step(self._clock(), heat, self._is_busy())
        if self.level == level:
            return
        if self.level > level:
            self.steps_back += 1
            why = self._sentence(self._governor.expected_s)
            logger.warning("{} {} of {} threads compute.", why, self.threads, self._ladder[0])
        elif self._governor.is_stuck:
            name = heat.name if heat else "The sensor"
            text = "{} tells the same whatever is done and is not believed: all {} threads compute."
            logger.warning(text, name, self.threads)
        else:
            text = "It is cool enough for {} threads again, after {}."
            logger.info(text, self.threads, was)
        # A worker that is down, or does not answer, starts with what is right then.
        with suppress(ShoalError):
            await self._changed()

    def warning(self) -> str:
        """One sentence where it throttles or soon will; else ""."""
        seconds = self._seconds()
        return "" if seconds is None or seconds > HORIZON_S else self._sentence(seconds)

    def status(self) -> dict[str, Any]:
        """For `GET /system-status`; None is what nobody tells, or what is not to be expected."""
        heat, seconds = self._governor.heat, self._seconds()
        planned = self._ladder[0]
        return {
            "sensor": heat and heat.name,
            "temperature_c": heat and heat.temperature_c,
            "throttles_at_c": heat and heat.throttles_at_c,
            "pressure": heat and heat.pressure,
            "seconds_until_throttling": None if seconds is None else round(seconds, 1),
            "is_controlled": len(self._ladder) > 1,
            "lowered": {"num_threads": self.threads} if self.threads < planned else {},
            "steps_back": self.steps_back,
        }

    def _sentence(self, seconds: float | None) -> str:
        heat = self._governor.heat
        assert heat is not None, "nothing is expected of a sensor that does not answer"
        if heat.pressure is not None:
            who = (
                "macOS tells of thermal pressure"
                if heat.temperature_c is None
                else (f"Windows lowers the clock for {heat.name}")
            )
            return f"{who} (level {heat.pressure})."
        at = f"{heat.name} is at {heat.temperature_c:.0f} °C and throttles"
        if seconds == 0:
            return f"{at} from {heat.throttles_at_c:.0f} °C on."
        soon = "" if seconds is None else f", in {seconds:.0f} s"
        return f"{at} at {heat.throttles_at_c:.0f} °C{soon}."

    def _seconds(self) -> float | None:
        return self._governor.seconds_until_throttling(self._clock())

    async def _run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S if self._is_busy() else IDLE_TICK_S)
