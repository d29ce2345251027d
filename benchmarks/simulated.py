"""Many replicas, simulated: requests, the one queue, rows that share a replica, and the autoscaler.

Time is simpy's. A replica makes a frame for each of its rows in `step_s + rows * row_step_s`, so a
sentence goes the slower the more are beside it. A sentence takes the row at which it is done
soonest, by the rule of `serving/stations.py`, or waits for one, the first first.
"""

import math
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from backend.cluster.scaling import DOWNSCALE_S, FULL_SHARE, UPSCALE_S, wanted

KEPT_VOICES = 64
"""Voices that a replica is known to have spoken in (`serving/spoken_voices.py`)."""
_NOTHING = 1e-6
"""Of a frame: what adding up small numbers leaves."""
LOOK_S = 1.0
"""Between two looks of the autoscaler."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one replica, as measured."""

    step_s: float
    row_step_s: float
    rows: int
    delay_s: float = 0.0
    """Of each request beside its frames: HTTP, text, prompt."""
    first_frames: float = 0.0
    """That are made before the first of them is heard."""
    rtf: float = 1.0
    """As planned; two kinds of replicas are compared by it."""

    def frames_per_s(self, rows: float) -> float:
        """Of so many rows together."""
        return rows / (self.step_s + rows * self.row_step_s) if rows else 0.0


@dataclass(slots=True, eq=False)
class Sentence:
    """One that is asked for; times are in seconds of the simulation, NaN until they are known."""

    frames: float
    asked_s: float
    voice: int | None = None
    entered_s: float = math.nan
    """The queue."""
    begun_s: float = math.nan
    first_s: float = math.nan
    ended_s: float = math.nan
    on_end: Callable[[], object] = field(default=lambda: None, repr=False)
    made: float = 0.0
    """Frames of it."""

    @property
    def waited_s(self) -> float:
        """For a row."""
        return self.begun_s - self.entered_s

    @property
    def first_audio_s(self) -> float:
        """From when it was asked for."""
        return self.first_s - self.asked_s


class Host:
    """A machine that replicas share with the server: where they want more cores than there are,
    what serves and what listens there have theirs, and the replicas the rest.

    `cores` of infinity is a machine where nothing is short.
    """

    def __init__(self, cores: float = math.inf, serving_s_per_frame: float = 0.0) -> None:
        self._cores, self.serving_s = cores, serving_s_per_frame
        self.replicas: list[Replica] = []

    def change(self, changed: "Replica") -> None:
        """How many `changed` speaks is another number, and with it how fast all go on."""
        if math.isinf(self._cores):
            changed.go_on(1.0)
            return
        busy = [each for each in self.replicas if each.at_work]
        full = sum(each.figures.frames_per_s(len(each.at_work)) for each in busy)
        asked = len(busy) + self.serving_s * full
        for replica in {changed, *busy}:
            replica.go_on(min(1.0, self._cores / asked) if busy else 1.0)


class Replica:
    """One that speaks: `at_work` are its sentences."""

    def __init__(self, env: simpy.Environment, figures: Figures, host: Host) -> None:
        self.figures, self.is_leaving = figures, False
        self.at_work: list[Sentence] = []
        self.ended: Callable[[], None] = lambda: None
        """Called whenever a row has become free."""
        self._env, self._host = env, host
        self._voices: OrderedDict[int, None] = OrderedDict()
        self._frame_s, self._since_s, self._turn = 0.0, env.now, 0
        host.replicas.append(self)

    def has_room(self) -> bool:
        """A sentence may begin."""
        return not self.is_leaving and len(self.at_work) < self.figures.rows

    def after(self, voice: int | None) -> tuple[float, bool]:
        """How late a sentence in `voice` would be done here: `Stations` compares the same."""
        is_new = voice is not None and voice not in self._voices
        return (len(self.at_work) + 1 + is_new) * self.figures.rtf, is_new

    def begin(self, sentence: Sentence) -> None:
        """Speak it too from now on."""
        sentence.begun_s = self._env.now
        if (voice := sentence.voice) is not None:
            self._voices[voice] = None
            self._voices.move_to_end(voice)
            if len(self._voices) > KEPT_VOICES:
                self._voices.popitem(last=False)
        self._count()  # the others', until now
        self.at_work.append(sentence)
        self._host.change(self)

    def go_on(self, share: float) -> None:
        """At this share of its full speed: wake when the next sentence is heard or over."""
        self._count()
        self._turn += 1
        if not self.at_work:
            return
        figures = self.figures
        self._frame_s = (figures.step_s + len(self.at_work) * figures.row_step_s) / share
        ahead = min(self._ahead(each) for each in self.at_work)
        turn = self._turn
        event = self._env.timeout(ahead * self._frame_s)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: self._wake(turn))

    def _ahead(self, sentence: Sentence) -> float:
        """Frames until something is to be noted of it."""
        first = min(self.figures.first_frames, sentence.frames)
        end = first if math.isnan(sentence.first_s) else sentence.frames
        return max(0.0, end - sentence.made)

    def _count(self) -> None:
        now_s = self._env.now
        if self._frame_s:
            made = (now_s - self._since_s) / self._frame_s
            for sentence in self.at_work:
                sentence.made += made
        self._since_s = now_s

    def _wake(self, turn: int) -> None:
        if turn != self._turn:
            return  # it goes at another speed meanwhile
        self._count()
        ended = []
        for sentence in self.at_work:
            if self._ahead(sentence) > _NOTHING:
                continue
            if math.isnan(sentence.first_s):
                sentence.first_s = self._env.now
            if sentence.frames - sentence.made <= _NOTHING:
                sentence.ended_s = self._env.now
                ended.append(sentence)
        if ended:
            self.at_work = [each for each in self.at_work if math.isnan(each.ended_s)]
        self._host.change(self)
        for sentence in ended:
            sentence.on_end()
        if ended:
            self.ended()


class Queue:
    """The one queue: who waits, the replicas that are there, and what was spoken."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.replicas: list[Replica] = []
        self.waiting: deque[Sentence] = deque()
        self.spoken: list[Sentence] = []

    def join(self, replica: Replica) -> None:
        """One more speaks."""
        replica.ended = self.look
        self.replicas.append(replica)
        self.look()

    def ask(self, sentence: Sentence) -> None:
        """`sentence` is to be spoken."""
        sentence.entered_s = self.env.now
        self.spoken.append(sentence)
        self.waiting.append(sentence)
        self.look()

    def wait_s(self) -> float:
        """About how long a newcomer would wait."""
        if not self.waiting and any(each.has_room() for each in self.replicas):
            return 0.0
        ahead = sum(each.frames for each in self.waiting)
        rows = [sentence for each in self.replicas for sentence in each.at_work]
        ahead += sum(each.frames - each.made for each in rows) / max(1, len(rows))
        speed = sum(each.figures.frames_per_s(each.figures.rows) for each in self.replicas)
        return ahead / speed if speed else math.inf

    def inside(self) -> int:
        """Sentences that wait or are spoken."""
        return len(self.waiting) + sum(len(each.at_work) for each in self.replicas)

    def look(self) -> None:
        """Give away the rows that are free, and let go who is to leave and has nothing to do."""
        while self.waiting and self._give():
            pass
        for replica in [each for each in self.replicas if each.is_leaving and not each.at_work]:
            self.replicas.remove(replica)

    def _give(self) -> bool:
        replica = soonest(self.replicas, self.waiting[0].voice)
        if replica is None:
            return False
        replica.begin(self.waiting.popleft())
        return True


def soonest(replicas: Sequence[Replica], voice: int | None) -> Replica | None:
    """Which takes the next sentence; None where no row is free."""
    free = [each for each in replicas if each.has_room()]
    return min(free, key=lambda each: each.after(voice), default=None)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What the autoscaler may do, and how long it takes; the delays are its own."""

    least: int
    most: int
    cold_start_s: float
    up_after_s: float = UPSCALE_S
    down_after_s: float = DOWNSCALE_S
    full_share: float = FULL_SHARE


class Autoscaler:
    """Starts replicas and lets them go; `counted` are how many there were, each second."""

    def __init__(self, queue: Queue, figures: Figures, scaling: Scaling) -> None:
        self._queue, self._figures, self._scaling = queue, figures, scaling
        self._starting = 0
        self.counted: list[int] = []
        for _ in range(scaling.least):
            queue.join(Replica(queue.env, figures, Host()))
        queue.env.process(self._run())

    def _run(self) -> Generator[simpy.Event, Any, None]:
        env, scaling = self._queue.env, self._scaling
        over_s = under_s = 0.0
        while True:
            staying = [each for each in self._queue.replicas if not each.is_leaving]
            there = len(staying) + self._starting
            self.counted.append(len(self._queue.replicas) + self._starting)
            inside, wait_s = self._queue.inside(), self._queue.wait_s()
            asked = wanted(there, self._figures.rows, inside, wait_s, scaling.full_share)
            asked = min(max(asked, scaling.least), scaling.most)
            over_s = over_s + LOOK_S if asked > there else 0.0
            under_s = under_s + LOOK_S if asked < there else 0.0
            if asked > there and over_s > scaling.up_after_s:
                for _ in range(asked - there):
                    self._starting += 1
                    env.process(self._start())
            elif asked < there and under_s > scaling.down_after_s:
                for replica in staying[asked - there :]:
                    replica.is_leaving = True
                self._queue.look()
            yield env.timeout(LOOK_S)

    def _start(self) -> Generator[simpy.Event, Any, None]:
        yield self._queue.env.timeout(self._scaling.cold_start_s)
        self._starting -= 1
        self._queue.join(Replica(self._queue.env, self._figures, Host()))


Lengths = Callable[[random.Random], float]
"""Frames of a sentence, by chance."""


def clients(
    queue: Queue, number: int, frames: Lengths, until_s: float, delay_s: float, seed: int
) -> None:
    """So many that ask for the next sentence as soon as they have heard the last."""

    def one(chance: random.Random) -> Generator[simpy.Event, Any, None]:
        env = queue.env
        while env.now < until_s:
            asked_s = env.now
            yield env.timeout(delay_s)
            over = env.event()
            queue.ask(Sentence(frames(chance), asked_s, on_end=over.succeed))
            yield over

    for number_ in range(number):
        queue.env.process(one(random.Random(f"{seed}/{number_}")))


def arrivals(
    queue: Queue,
    rate_at: Callable[[float], float],
    frames: Lengths,
    until_s: float,
    seed: int,
    delay_s: float = 0.0,
) -> None:
    """Sentences that come by chance, `rate_at` a second at a time."""
    chance = random.Random(seed)

    def ask(sentence: Sentence) -> Generator[simpy.Event, Any, None]:
        yield queue.env.timeout(delay_s)
        queue.ask(sentence)

    def come() -> Generator[simpy.Event, Any, None]:
        env = queue.env
        while env.now < until_s:
            yield env.timeout(chance.expovariate(rate_at(env.now)))
            sentence = Sentence(frames(chance), env.now)
            if delay_s:
                env.process(ask(sentence))
            else:
                queue.ask(sentence)

    queue.env.process(come())
