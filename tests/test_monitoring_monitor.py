"""The sampling task: one, only while something is synthesised, each sample to all that run."""

import asyncio
import threading
import time

import pytest

from backend.monitoring import monitor as monitor_module
from backend.monitoring.monitor import Monitor
from backend.monitoring.sample import Observed, Sample
from tests.monitored import ScriptedReader, logged, run

INTERVAL_S = 0.02


class Rig:
    """A monitor on a scripted machine, and what it recorded."""

    def __init__(self, delay_s: float = 0.0, interval_s: float = INTERVAL_S) -> None:
        self.reader = ScriptedReader(delay_s)
        self.recorded: list[int] = []
        self.monitor = Monitor(self.reader, self._record, interval_s)

    def _record(self, sample: Sample, running: int) -> None:
        self.recorded.append(running)

    async def until_idle(self) -> None:
        while self.monitor.is_sampling:
            await asyncio.sleep(0.005)
        # Its thread does one thing after another, and this comes after all that it was given.
        await self.monitor._in_thread(lambda: None)

    async def until_recorded(self, count: int) -> None:
        while len(self.recorded) < count:
            await asyncio.sleep(0.001)


class Stepped(Rig):
    """The same, taking a sample only when it is told to."""

    def __init__(self) -> None:
        super().__init__(interval_s=0.0)
        self.permits = self.reader.permits = threading.Semaphore(0)

    async def step(self, count: int = 1) -> None:
        wanted = len(self.recorded) + count
        self.permits.release(count)
        await self.until_recorded(wanted)

    async def close(self) -> None:
        closing = asyncio.create_task(self.monitor.close())
        await asyncio.sleep(0)
        self.permits.release()  # for the look that waits, if one does
        await closing


def test_samples_only_while_something_is_watched() -> None:
    async def work() -> None:
        rig = Rig()
        await rig.monitor.open()
        await rig.until_idle()
        assert rig.reader.calls == ["open"]
        for burst in (1, 2):
            observed = Observed()
            rig.monitor.watch(observed)
            while observed.samples < 3:
                await asyncio.sleep(0.001)
            rig.monitor.release(observed)
            await rig.until_idle()
            assert rig.reader.calls.count("start") == burst
        await rig.monitor.close()
        assert rig.reader.calls[0] == "open"
        assert rig.reader.calls[-1] == "close"

    run(work())


class Pause(threading.Event):
    """The time between two looks: it passes at once, and each look takes what is in `looks_s`."""

    def __init__(self, *looks_s: float) -> None:
        super().__init__()
        self.now_s = 100.0
        self.began_s: list[float] = []
        self._looks_s = list(looks_s)

    def monotonic(self) -> float:
        return self.now_s

    def look(self) -> Sample:
        self.began_s.append(round(self.now_s - 100.0, 6))
        self.now_s += self._looks_s.pop(0)
        return Sample(self.now_s, 50.0, 40.0)

    def wait(self, timeout: float | None = None) -> bool:
        self.now_s += max(0.0, timeout or 0.0)
        if not self._looks_s:
            self.set()
        return self.is_set()


def test_every_100_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        rig = Rig(interval_s=0.1)
        pause = Pause(0.01, 0.05, 0.25, 0.01, 0.01)
        monkeypatch.setattr(monitor_module, "time", pause)
        monkeypatch.setattr(rig.monitor, "_is_closing", pause)
        monkeypatch.setattr(rig.reader, "read", pause.look)
        rig.monitor.watch(Observed())
        await rig.until_idle()
        # No burst after a look that took longer.
        assert pause.began_s == [0.0, 0.1, 0.2, 0.45, 0.55]
        await rig.monitor.close()

    run(work())


def test_the_loop_goes_on_while_a_reading_blocks() -> None:
    async def work() -> None:
        rig = Stepped()
        observed = Observed()
        rig.monitor.watch(observed)
        while "read" not in rig.reader.calls:
            await asyncio.sleep(0.001)
        assert rig.reader.reads == 0, "it looks, and this goes on"
        await rig.step(2)
        assert threading.get_ident() not in rig.reader.threads
        assert len(rig.reader.threads) == 1
        rig.monitor.release(observed)
        await rig.close()

    run(work())


def test_a_sample_belongs_to_everyone_running_then_and_to_nobody_else() -> None:
    async def work() -> None:
        rig = Stepped()
        early, late = Observed(), Observed()
        rig.monitor.watch(early)
        await rig.step(3)
        rig.monitor.watch(late)
        await rig.step(3)
        rig.monitor.release(early)
        await rig.step(3)
        rig.monitor.release(late)
        await rig.step()
        await rig.until_idle()
        # The n-th look shows n per cent.
        assert (early.samples, early.peak_gpu_util_pct, early.mean_gpu_util_pct) == (6, 6.0, 3.5)
        assert (late.samples, late.peak_gpu_util_pct, late.mean_gpu_util_pct) == (6, 9.0, 6.5)
        assert rig.recorded == [1, 1, 1, 2, 2, 2, 1, 1, 1, 0]  # the last look was under way
        await rig.close()

    run(work())


def test_who_comes_while_the_thread_leaves_is_watched() -> None:
    async def work() -> None:
        rig = Stepped()
        first, second = Observed(), Observed()
        rig.monitor.watch(first)
        await rig.step()
        rig.monitor.release(first)
        rig.permits.release()
        while rig.reader.reads < 2 or rig.monitor._latest is not None:
            time.sleep(0.001)  # the loop stands still while the thread finds nobody and leaves
        rig.monitor.watch(second)
        await rig.step()
        assert second.samples == 1
        assert rig.reader.calls.count("start") == 2
        rig.monitor.release(second)
        await rig.step()
        await rig.until_idle()
        await rig.close()

    run(work())


def test_one_task_whoever_comes_and_goes() -> None:
    async def work() -> None:
        rig = Rig()

        async def come_and_go() -> None:
            observed = Observed()
            rig.monitor.watch(observed)
            await asyncio.sleep(INTERVAL_S)
            tasks = [task for task in asyncio.all_tasks() if task.get_name() == "monitor"]
            assert len(tasks) == 1
            rig.monitor.release(observed)

        for _ in range(5):
            await asyncio.gather(*(come_and_go() for _ in range(10)))
        await rig.until_idle()
        await rig.monitor.close()

    run(work())


def test_too_short_for_a_sample_of_its_own_gets_the_latest() -> None:
    async def work() -> None:
        rig = Stepped()
        long, short = Observed(), Observed()
        rig.monitor.watch(long)
        await rig.step(2)
        rig.monitor.watch(short)
        rig.monitor.release(short)
        assert (short.samples, short.peak_gpu_util_pct) == (1, 2.0)
        rig.monitor.release(short)
        assert short.samples == 1
        rig.monitor.release(long)
        await rig.step()
        await rig.until_idle()
        stale = Observed()  # nothing was taken since it is here
        rig.monitor.watch(stale)
        rig.monitor.release(stale)
        assert stale.samples == 0
        await rig.until_idle()
        await rig.close()

    run(work())


def test_leaving_in_the_middle_of_a_reading() -> None:
    async def work() -> None:
        rig = Rig(delay_s=0.1)
        rig.monitor.watch(Observed())
        while rig.reader.reads < 1:
            await asyncio.sleep(0.001)
        await rig.monitor.close()
        assert rig.reader.calls[-1] == "close"  # after the reading, not during it
        assert not rig.monitor.is_sampling

    run(work())


def test_a_task_that_is_cancelled_takes_its_thread_along() -> None:
    async def work() -> None:
        rig = Rig()
        rig.monitor.watch(Observed())
        await rig.until_recorded(2)
        (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "monitor")
        task.cancel()
        await asyncio.wait([task])
        await rig.until_idle()  # would never be, if its thread went on
        await rig.monitor.close()

    run(work())


def test_a_machine_that_cannot_be_read_is_a_warning() -> None:
    async def work() -> None:
        rig = Rig()
        rig.reader.error = OSError("no /proc")
        with logged() as lines:
            observed = Observed()
            rig.monitor.watch(observed)
            await rig.until_idle()
            assert lines == ["WARNING The machine's load cannot be read: no /proc\n"]
        rig.monitor.release(observed)
        rig.reader.error = None
        again = Observed()
        rig.monitor.watch(again)
        while again.samples < 2:
            await asyncio.sleep(0.001)
        rig.monitor.release(again)
        await rig.monitor.close()

    run(work())


def test_observed_without_samples_says_so() -> None:
    observed = Observed()
    assert observed.mean_cpu_pct is None
    assert observed.mean_gpu_util_pct == 0.0
    assert observed.gpu_util_source == "none"


def test_observed_peaks_and_means() -> None:
    observed = Observed()
    observed.add(Sample(0.0, None, 40.0))
    observed.add(Sample(0.1, 20.0, 60.0, 900.0, 10.0, "nvml", 70.0))
    observed.add(Sample(0.2, 60.0, 50.0, 800.0, 50.0, "nvml", None))
    assert (observed.peak_cpu_pct, observed.mean_cpu_pct) == (60.0, 40.0)
    assert (observed.peak_memory_pct, observed.peak_temperature_c) == (60.0, 70.0)
    assert (observed.peak_vram_mb, observed.peak_gpu_util_pct) == (900.0, 50.0)
    assert observed.mean_gpu_util_pct == 30.0
    assert observed.gpu_util_source == "nvml"
