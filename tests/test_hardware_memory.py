"""Leases, limits and estimates; every reading of the machine is injected."""

import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from backend.core import MIB, Choice, Plan
from backend.errors import NotEnoughMemory, OverCapacity, ShoalError, TextTooLong
from backend.hardware.machine import Hardware
from backend.hardware.memory import Demand, MemoryBudgetManager, MemoryNow
from backend.hardware.need import CheckpointShape
from backend.hardware.pressure import RunningConfig
from tests.computers import I5, S1, computer, mac, plan_for

AIR = mac(memory_gib=8, board="MacBookAir10,1")
I5_8GB = computer(I5, 8)
IDLE_MB = 2500


class Machine:
    """Memory that the test sets, in MiB, and a manager that reads it."""

    def __init__(
        self,
        free_mb: float = 16_000,
        *,
        hardware: Hardware = I5_8GB,
        shape: CheckpointShape = S1,
        is_limit_dynamic: bool = True,
        plan: Plan | None = None,
    ) -> None:
        self.free_mb, self.worker_mb = free_mb, float(IDLE_MB)
        self.plan = plan or plan_for(hardware, shape)
        self.manager = MemoryBudgetManager(self.plan, shape, self._read, is_limit_dynamic)

    def _read(self) -> MemoryNow:
        return MemoryNow(int(self.free_mb * MIB), int(self.worker_mb * MIB), IDLE_MB * MIB)

    def use(self, more_mb: float) -> None:
        """The worker takes so much more."""
        self.worker_mb += more_mb
        self.free_mb -= more_mb


def demand(characters: int = 100, chunk_length: int = 150) -> Demand:
    return Demand(characters, chunk_length)


def need_mb(machine: Machine, asked: Demand) -> float:
    return machine.manager.need_bytes(asked) / MIB


# --- leases


def test_a_lease_holds_what_the_request_adds_until_it_is_released() -> None:
    manager = Machine().manager
    lease = manager.lease(demand())
    assert manager.leased_bytes == manager.need_bytes(demand())
    lease.release()
    assert manager.leased_bytes == 0


def test_a_second_release_takes_nothing_of_others() -> None:
    manager = Machine().manager
    first, second = manager.lease(demand()), manager.lease(demand())
    first.release()
    first.release()
    assert manager.leased_bytes == manager.need_bytes(demand())
    second.release()
    assert manager.leased_bytes == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_every_way_out_releases(error: type[BaseException]) -> None:
    manager = Machine().manager
    with pytest.raises(error), manager.lease(demand()):
        assert manager.leased_bytes > 0
        raise error
    assert manager.leased_bytes == 0


def test_requests_add_up_and_share_what_they_pass_through() -> None:
    machine = Machine()
    alone = machine.manager.need_bytes(demand())
    sums = []
    for _ in range(3):
        machine.manager.lease(demand())
        sums.append(machine.manager.leased_bytes)
    assert sums[0] == alone
    assert alone < sums[1] < 2 * alone
    assert sums[1] < sums[2] < 3 * alone


def test_a_long_request_leaves_the_rows_of_short_ones_as_they_are() -> None:
    manager, plan = Machine().manager, plan_for(I5_8GB, S1)
    precision, quantization = plan.precision.value, plan.quantization.value
    long, short = demand(150), demand(10)
    manager.lease(long)
    alone = manager.leased_bytes
    manager.lease(short)
    row_bytes = S1.request_need(10, precision, 150, quantization=quantization).cache_bytes
    assert manager.leased_bytes == alone + row_bytes + S1.codec.stream_bytes


def test_keys_and_values_have_a_limit_of_their_own() -> None:
    plan = plan_for(I5_8GB, S1)
    small = replace(plan, cache_limit_mb=Choice(64, "as told"))
    limited, free = (Machine(plan=made).manager for made in (small, plan))
    three = Demand(450, 150)
    quantization = plan.quantization.value
    need = S1.request_need(450, plan.precision.value, 150, quantization=quantization)
    beside = need.own_bytes + need.passing_bytes
    assert free.need_bytes(three) == need.cache_bytes + beside
    one_row = need.longest_row_bytes
    assert limited.need_bytes(three) == max(one_row, 64 * MIB) + beside < free.need_bytes(three)


def test_fifty_at_once_never_get_more_than_there_is() -> None:
    machine = Machine(free_mb=4000)
    manager, held, refused = machine.manager, [], []
    gate = threading.Barrier(50)

    def ask(index: int) -> None:
        gate.wait()
        try:
            held.append(manager.lease(demand(50 + index)))
        except OverCapacity as error:
            refused.append(error)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
    assert held and refused
    assert len(held) + len(refused) == 50
    assert 0 < manager.leased_bytes <= manager.room_bytes
    random.Random(1).shuffle(held)
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda lease: lease.release(), held * 2))
    assert manager.leased_bytes == 0


def test_what_running_requests_took_is_not_counted_twice() -> None:
    machine = Machine(free_mb=4000)
    room = machine.manager.room_bytes
    machine.manager.lease(demand())
    machine.use(300)
    assert machine.manager.room_bytes == room
    assert machine.manager.admits(demand())
    machine.manager.lease(demand())


def test_what_others_took_is_missed() -> None:
    machine = Machine(free_mb=4000)
    room = machine.manager.room_bytes
    machine.free_mb -= 500
    assert machine.manager.room_bytes < room


# --- refusals


def test_what_fits_an_idle_machine_is_told_to_come_back() -> None:
    machine, asked, held = Machine(), demand(400, 150), []
    machine.free_mb = 2 * 3 * need_mb(machine, asked)
    with pytest.raises(OverCapacity) as refused:
        for _ in range(50):
            held.append(machine.manager.lease(asked))
    assert held
    assert not machine.manager.admits(asked)
    told = str(refused.value)
    assert f"hold {machine.manager.leased_bytes // MIB} of" in told
    assert f"{machine.manager.room_bytes // MIB} MB" in told
    held[0].release()
    machine.manager.lease(asked)


def test_what_never_fits_is_told_the_length_that_does() -> None:
    whole, shorter = demand(3000, 400), demand(150, 400)
    machine = Machine()
    both_mb = need_mb(machine, whole) + need_mb(machine, shorter)
    machine.free_mb = both_mb  # half of it is margin: between the two
    with pytest.raises(TextTooLong) as refused:
        machine.manager.lease(whole)
    assert not isinstance(refused.value, OverCapacity)
    told = str(refused.value)
    assert f"{int(need_mb(machine, whole))} MB" in told
    fitting = int(told.rstrip(".").split()[-2])
    assert 150 <= fitting < 3000
    machine.manager.lease(replace(whole, characters=fitting)).release()
    with pytest.raises(TextTooLong):
        machine.manager.lease(replace(whole, characters=fitting + 1))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (demand(), "even a few words need"),
        (replace(demand(1), encoded_s=30.0), "a recording needs"),
        (replace(demand(1), decoded_s=30.0), "a saved voice's sample needs"),
    ],
)
def test_where_not_a_word_fits_memory_is_what_is_short(asked: Demand, says: str) -> None:
    with pytest.raises(OverCapacity, match=says):
        Machine(free_mb=1).manager.lease(asked)


def test_a_refusal_holds_nothing() -> None:
    manager = Machine(free_mb=100).manager
    with pytest.raises(ShoalError):
        manager.lease(demand())
    assert manager.leased_bytes == 0


# --- margins


@pytest.mark.parametrize(("hardware", "margin_mb"), [(AIR, 1536), (I5_8GB, 2048)])
def test_the_changelogs_margins(hardware: Hardware, margin_mb: int) -> None:
    machine = Machine(free_mb=9000, hardware=hardware)
    assert machine.manager.room_bytes == (9000 - margin_mb) * MIB


def test_a_margin_larger_than_what_is_free_silences_nobody() -> None:
    machine = Machine(free_mb=1500)
    assert machine.plan.safety_margin_mb > 1500
    assert machine.manager.room_bytes == 750 * MIB
    machine.manager.lease(demand(100))


# --- limits


def limit(machine: Machine, asked: Demand | None = None) -> tuple[int, str]:
    return machine.manager.text_limit(RunningConfig.of(machine.plan), asked or demand(5000))


def test_memory_in_plenty_raises_the_tiers_limit() -> None:
    length, reason = limit(Machine(free_mb=16_000))
    assert length == 600
    assert reason.startswith("raised from 300 because")


def test_the_tiers_limit_where_memory_is_enough() -> None:
    machine = Machine()
    machine.free_mb = 2.2 * need_mb(machine, demand(300))
    length, reason = limit(machine)
    assert (length, reason) == (300, machine.plan.max_text_length.reason)


def test_memory_that_is_short_lowers_it() -> None:
    machine = Machine()
    machine.free_mb = 2 * need_mb(machine, demand(100))
    length, reason = limit(machine)
    assert 100 <= length < 300
    assert "MB are free" in reason
    machine.manager.lease(demand(length)).release()


def test_heat_keeps_the_limit_however_much_is_free() -> None:
    assert limit(Machine(free_mb=64_000, hardware=AIR))[0] == 150


def test_a_users_limit_is_never_raised_only_lowered() -> None:
    plan = plan_for(I5_8GB, S1, max_text_length=420)
    assert plan.max_text_length.source == "user"
    machine = Machine(free_mb=64_000, plan=plan)
    assert limit(machine) == (420, plan.max_text_length.reason)
    machine.free_mb = 2 * need_mb(machine, demand(100))
    assert limit(machine)[0] < 420


def test_a_limit_that_is_fixed_stays() -> None:
    machine = Machine(free_mb=64_000, is_limit_dynamic=False)
    assert limit(machine)[0] == 300
    machine.free_mb = 2 * need_mb(machine, demand(100))
    assert limit(machine)[0] == 300


def test_a_limit_reduced_under_pressure_is_not_raised() -> None:
    machine = Machine(free_mb=64_000)
    config = replace(RunningConfig.of(machine.plan), max_text_length=150)
    told = machine.manager.text_limit(config, demand(5000))
    assert told == (150, "reduced under memory pressure")


def test_a_reference_leaves_less_for_text() -> None:
    machine = Machine()
    machine.free_mb = 2.5 * need_mb(machine, demand(200))
    plain = limit(machine)[0]
    assert limit(machine, replace(demand(5000), reference_s=60.0))[0] < plain


# --- estimates


@pytest.mark.parametrize(
    ("hardware", "base_mb", "per_100_mb"), [(AIR, 2000, 50), (I5_8GB, 2500, 60)]
)
def test_the_changelogs_formula(hardware: Hardware, base_mb: float, per_100_mb: float) -> None:
    machine = Machine(hardware=hardware)
    overhead_mb = machine.plan.estimate_cache_overhead_mb
    text = "word" * 250
    estimate = machine.manager.estimate(text, demand(len(text)))
    assert (estimate.text_tokens, estimate.text_length) == (250, 1000)
    assert estimate.formula_mb == base_mb + 2.5 * per_100_mb + overhead_mb


def test_the_estimate_is_the_workers_expected_peak() -> None:
    machine = Machine(free_mb=4000)
    estimate = machine.manager.estimate("a" * 200, demand(200))
    plan = machine.plan
    held = plan.quantization.value
    expected = S1.request_bytes(200, plan.precision.value, 150, quantization=held) / MIB
    assert estimate.estimated_mb == pytest.approx(IDLE_MB + expected, abs=0.1)
    assert estimate.available_mb == 4000 + IDLE_MB


def test_below_80_percent_is_safe() -> None:
    machine = Machine(free_mb=4000)
    asked = demand(200)
    peak_mb = machine.manager.estimate("a" * 200, asked).estimated_mb
    machine.free_mb = peak_mb / 0.8 - IDLE_MB + 1
    assert machine.manager.estimate("a" * 200, asked).safe
    machine.free_mb -= 2
    assert not machine.manager.estimate("a" * 200, asked).safe


def test_an_unsafe_text_has_a_length_that_is_safe() -> None:
    machine = Machine()
    peak_mb = machine.manager.estimate("a" * 300, demand(300)).estimated_mb
    machine.free_mb = peak_mb / 0.8 - IDLE_MB - 20
    longest = machine.manager.longest_safe(demand(300))
    assert 0 < longest < 300
    assert machine.manager.estimate("a" * longest, demand(longest)).safe
    machine.free_mb = 0
    assert machine.manager.longest_safe(demand(300)) == 0


def test_a_recording_is_leased_what_encoding_takes() -> None:
    machine = Machine()
    encoding = replace(demand(1), encoded_s=60.0)
    with machine.manager.lease(encoding):
        assert machine.manager.leased_bytes == machine.manager.need_bytes(encoding) > 0
    decoding = replace(encoding, decoding_bytes=7_000_000)
    more = machine.manager.need_bytes(decoding) - machine.manager.need_bytes(encoding)
    assert more == 7_000_000


def test_a_voice_is_leased_what_decoding_takes() -> None:
    machine = Machine()
    decoding = replace(demand(1), decoded_s=10.0)
    with machine.manager.lease(decoding):
        assert machine.manager.leased_bytes == S1.decoding_need(10.0).total_bytes
    machine.free_mb = 20
    with pytest.raises(OverCapacity, match="Memory is short"):
        machine.manager.lease(decoding)


# --- loading


def test_a_worker_that_fits_may_load() -> None:
    Machine(free_mb=4000).manager.check_load(3000 * MIB)


def test_a_worker_that_does_not_fit_is_refused_with_what_would() -> None:
    machine = Machine(free_mb=4000)
    machine.worker_mb = 0
    room_mb = 4000 - machine.manager._margin_bytes(4000 * MIB) // MIB
    int4_mb = S1.resident_bytes(machine.plan.precision.value, "int4", "cpu", 16) // MIB
    with pytest.raises(NotEnoughMemory) as refused:
        machine.manager.check_load(5000 * MIB)
    told = str(refused.value)
    assert f"takes 5000 MB to start, and {room_mb} MB are free" in told
    assert f"{5000 + machine.plan.safety_margin_mb - 4000} MB more" in told
    assert (f"QUANTIZATION=int4, which takes {int4_mb} MB" in told) == (int4_mb <= room_mb)


def test_a_worker_that_fits_once_it_is_loaded_has_to_fit_until_then_too() -> None:
    machine = Machine(free_mb=4000)
    machine.worker_mb = 0
    machine.manager.check_load(1500 * MIB)
    with pytest.raises(NotEnoughMemory, match="takes 2100 MB to start"):
        machine.manager.check_load(1500 * MIB, 600 * MIB)


@pytest.mark.parametrize("free_mb", [10, 60, 120, 350, 700, 3000])
def test_what_a_refusal_says_would_work_works(free_mb: int) -> None:
    machine = Machine(free_mb=free_mb)
    machine.worker_mb = 0
    resident_bytes = (free_mb + 1) * MIB
    with pytest.raises(NotEnoughMemory) as refused:
        machine.manager.check_load(resident_bytes)
    more = re.search(r"Would work: (\d+) MB more", str(refused.value))
    assert more is not None
    machine.free_mb = free_mb + int(more[1])
    machine.manager.check_load(resident_bytes)
    machine.free_mb -= 2
    with pytest.raises(NotEnoughMemory):
        machine.manager.check_load(resident_bytes)


def test_safe_is_when_what_is_promised_is_there() -> None:
    machine = Machine(free_mb=4000)
    machine.manager.lease(demand())
    assert machine.manager.is_safe
    machine.free_mb = 200
    assert not machine.manager.is_safe
