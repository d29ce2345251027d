"""Machines that warm up and throttle, simulated: what tests of thermal control are run on.

A chip on a heat sink in a room: two bodies, each warmed by the one inside it and cooled by the one
outside. All are composed; `PI_4` warms as a Raspberry Pi 4 does that has little air around it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from backend.hardware.thermal import Governor, ladder
from backend.thermometer import Heat

AMBIENT_C = 22.0
PARALLEL = 0.7
"""Share of a frame's work that threads divide among them."""


def amdahl(threads: int, parallel: float = PARALLEL) -> float:
    """Speed of so many threads, one thread's being 1."""
    return 1 / (1 - parallel + parallel / threads)


@dataclass(frozen=True)
class Machine:
    """Constants: °C, W, °C/W, J/°C, s."""

    name: str
    planned: int
    """Threads."""
    throttles_at_c: float
    chip_c_per_w: float
    chip_j_per_c: float
    sink_c_per_w: float
    sink_j_per_c: float
    idle_w: float
    work_w: Callable[[int], float]
    """Of so many threads at full clock, above idle."""
    speed: Callable[[int], float]
    """Of so many threads at full clock."""
    least_clock: float
    """What throttling lowers the clock to, of 1."""
    clock_step: float
    """How fast it does so, a second; 1 is at once."""
    cooler_c: float
    """Below the throttling point by so much, it is raised again."""
    volts: float = 0.0
    """Power is that at full clock times `clock ** (1 + volts)`: 0 where the voltage stays as it is,
    2 where it follows the clock."""


@dataclass
class Plant:
    """One machine in time; `ambient_c` may be changed."""

    machine: Machine
    ambient_c: float = AMBIENT_C
    clock: float = 1.0
    throttled_s: float = 0.0
    spoken: float = 0.0
    chip_c: float = field(init=False)
    sink_c: float = field(init=False)

    def __post_init__(self) -> None:
        machine = self.machine
        self.sink_c = self.ambient_c + machine.idle_w * machine.sink_c_per_w
        self.chip_c = self.sink_c + machine.idle_w * machine.chip_c_per_w

    def run(self, seconds: float, threads: int, step_s: float = 0.25) -> None:
        """Go on for so long with `threads` at work; 0 is idle."""
        machine = self.machine
        for _ in range(round(seconds / step_s)):
            work_w = machine.work_w(threads) if threads else 0.0
            power_w = machine.idle_w + work_w * self.clock ** (1 + machine.volts)
            out_w = (self.chip_c - self.sink_c) / machine.chip_c_per_w
            lost_w = (self.sink_c - self.ambient_c) / machine.sink_c_per_w
            self.chip_c += step_s * (power_w - out_w) / machine.chip_j_per_c
            self.sink_c += step_s * (out_w - lost_w) / machine.sink_j_per_c
            self._throttle(step_s)
            self.throttled_s += step_s * (self.clock < 1)
            self.spoken += step_s * self.clock * (machine.speed(threads) if threads else 0.0)

    def _throttle(self, step_s: float) -> None:
        machine = self.machine
        if self.chip_c >= machine.throttles_at_c:
            self.clock = max(machine.least_clock, self.clock - machine.clock_step * step_s)
        elif self.chip_c <= machine.throttles_at_c - machine.cooler_c:
            self.clock = min(1.0, self.clock + machine.clock_step * step_s)


@dataclass
class Run:
    """What became of a machine."""

    plant: Plant
    governor: Governor
    levels: list[int]
    """Of each second."""
    hottest_c: float
    spoken_by_minute: list[float] = field(default_factory=list)

    @property
    def changes(self) -> list[int]:
        """Seconds at which the level changed."""
        return [i for i in range(1, len(self.levels)) if self.levels[i] != self.levels[i - 1]]

    @property
    def late_speed(self) -> float:
        """What was spoken in the last ten minutes."""
        return self.spoken_by_minute[-1] - self.spoken_by_minute[-11]


Sensor = Callable[[float, float], Heat | None]
"""What is read at a time (s) and temperature (°C)."""


def sensor_of(
    machine: Machine, noise_c: float = 0.7, digit_c: float = 1.0, seed: int = 0
) -> Sensor:
    """One that errs and rounds, as a Raspberry Pi's does."""
    draw = random.Random(seed)

    def read(_: float, chip_c: float) -> Heat:
        told_c = digit_c * round((chip_c + draw.gauss(0, noise_c)) / digit_c)
        return Heat("simulated", told_c, machine.throttles_at_c)

    return read


def simulate(
    machine: Machine,
    seconds: int = 1800,
    is_controlled: bool = True,
    sensor: Sensor | None = None,
    is_busy: Callable[[int], bool] = lambda _: True,
    ambient_c: Callable[[int], float] = lambda _: AMBIENT_C,
) -> Run:
    """Speak for so long, a tick a second, with the governor's ladder or without it."""
    steps = ladder(machine.planned)
    plant, governor = Plant(machine, ambient_c(0)), Governor(len(steps) - 1)
    run = Run(plant, governor, [], plant.chip_c)
    sensor = sensor or sensor_of(machine)
    for second in range(seconds):
        plant.ambient_c = ambient_c(second)
        busy = is_busy(second)
        level = governor.step(float(second), sensor(float(second), plant.chip_c), busy)
        run.levels.append(level if is_controlled else 0)
        plant.run(1.0, steps[run.levels[-1]] if busy else 0)
        run.hottest_c = max(run.hottest_c, plant.chip_c)
        if second % 60 == 59:
            run.spoken_by_minute.append(plant.spoken)
    return run


PI_4 = Machine(
    name="Raspberry Pi 4 in a closed case",
    planned=4,
    throttles_at_c=80.0,
    chip_c_per_w=2.5,
    chip_j_per_c=2.4,
    sink_c_per_w=6.5,
    sink_j_per_c=23.0,
    idle_w=3.9,
    work_w=lambda threads: 1.0 * threads,
    speed=amdahl,
    least_clock=0.4,
    clock_step=0.067,
    cooler_c=1.0,
)
FANLESS = Machine(
    name="laptop without a fan",
    planned=4,
    throttles_at_c=100.0,
    chip_c_per_w=1.5,
    chip_j_per_c=4.0,
    sink_c_per_w=4.0,
    sink_j_per_c=110.0,
    idle_w=2.5,
    work_w=lambda threads: 4.0 * threads,
    speed=amdahl,
    least_clock=0.35,
    clock_step=1.0,
    cooler_c=8.0,
)
DESKTOP = Machine(
    name="desktop",
    planned=8,
    throttles_at_c=100.0,
    chip_c_per_w=0.25,
    chip_j_per_c=30.0,
    sink_c_per_w=0.2,
    sink_j_per_c=600.0,
    idle_w=20.0,
    work_w=lambda threads: 13.0 * threads,
    speed=amdahl,
    least_clock=0.4,
    clock_step=1.0,
    cooler_c=5.0,
)
DUSTY = Machine(
    name="laptop with dust in its fan",
    planned=6,
    throttles_at_c=95.0,
    chip_c_per_w=0.9,
    chip_j_per_c=8.0,
    sink_c_per_w=1.5,
    sink_j_per_c=180.0,
    idle_w=6.0,
    work_w=lambda threads: 7.0 * threads,
    speed=amdahl,
    least_clock=0.3,
    clock_step=1.0,
    cooler_c=10.0,
)
GENTLE = Machine(
    name="laptop that lowers clock and voltage together, as little as it must",
    planned=4,
    throttles_at_c=100.0,
    chip_c_per_w=1.5,
    chip_j_per_c=4.0,
    sink_c_per_w=4.0,
    sink_j_per_c=110.0,
    idle_w=2.5,
    work_w=lambda threads: 4.0 * threads,
    speed=amdahl,
    least_clock=0.35,
    clock_step=0.02,
    cooler_c=0.5,
    volts=2.0,
)
BLOCKED_GPU = Machine(
    name="GPU whose air is blocked, rows in place of threads",
    planned=128,
    throttles_at_c=90.0,
    chip_c_per_w=0.08,
    chip_j_per_c=60.0,
    sink_c_per_w=0.22,
    sink_j_per_c=700.0,
    idle_w=40.0,
    work_w=lambda rows: 120.0 + 160.0 * (rows / 128) ** 0.7,
    speed=lambda rows: rows**0.74,
    least_clock=0.5,
    clock_step=1.0,
    cooler_c=5.0,
)
"""A row costs hardly any power, and is a large part of the speech: an H100 makes 664 frames/s with
one and 24,045 with 128."""
