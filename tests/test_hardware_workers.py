"""How many workers a machine gets, and the plan of each."""

from dataclasses import replace

import pytest
from rich.console import Console

from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.deployment import Deployment
from backend.hardware.machine import GIB, Hardware, Memory
from backend.hardware.measured import Measurement, Setup
from backend.hardware.memory import MemoryNow, part_of
from backend.hardware.need import CheckpointShape
from backend.hardware.report import plan_table, workers_json
from backend.hardware.workers import CORES_FOR_EACH, MOST_SMALL, Workers, plan_workers
from backend.serving.launch import worker_environment
from backend.settings import load_settings
from tests.computers import DEMO, S1, Given
from tests.test_hardware_measured import figures
from tests.test_hardware_plans_of_machines import HARDWARE

TWO = HARDWARE["two_gpus"]
BUSY = HARDWARE["two_3090_one_busy"]
EIGHT_CORES = HARDWARE["amd_ryzen7_5800x"]


def planned(hardware: Hardware, shape: CheckpointShape = S1, **values: object) -> Workers:
    return plan_workers(hardware, Given(**values), shape)  # type: ignore[arg-type]


def devices(workers: Workers) -> list[str]:
    return [plan.device.value for plan in workers.plans]


# -- GPUs ------------------------------------------------------------------------------------------


def test_a_worker_for_each_gpu_which_sees_no_other() -> None:
    workers = planned(TWO)
    assert devices(workers) == ["cuda:1", "cuda:0"], "the one with most free memory is first"
    assert (workers.number.value, workers.number.source) == (2, "machine")
    assert workers.number.reason == "one for each GPU: cuda:1, cuda:0"
    uuids = [gpu.uuid for gpu in reversed(TWO.gpus)]
    seen = [worker_environment(plan)["CUDA_VISIBLE_DEVICES"] for plan in workers.plans]
    assert seen == uuids
    assert all(plan.device.source == "machine" for plan in workers.plans)


def test_the_first_is_planned_as_if_it_were_alone() -> None:
    (alone,), both = planned(TWO, workers="1").plans, planned(TWO).plans
    assert both[0] == alone


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_gpu_that_is_named_is_the_only_one(device: str) -> None:
    workers = planned(TWO, device=device)
    assert devices(workers) == [device]
    assert workers.number.value == 1


def test_a_gpu_that_another_program_fills_is_left_to_it_unless_it_is_asked_for() -> None:
    assert devices(planned(BUSY)) == ["cuda:1"]
    assert devices(planned(BUSY, workers="2")) == ["cuda:1", "cuda:0"]


def test_more_workers_than_gpus_are_refused_with_what_would_work() -> None:
    with pytest.raises(BadSetting) as told:
        planned(TWO, workers="3")
    assert "SHOAL_WORKERS=3" in str(told.value)
    assert "Set SHOAL_WORKERS=2" in str(told.value)


def test_on_the_cpu_of_a_machine_with_gpus_there_may_be_several() -> None:
    assert devices(planned(TWO, DEMO, device="cpu", workers="2")) == ["cpu", "cpu"]


def test_what_was_measured_on_a_card_counts_for_its_like() -> None:
    second = replace(BUSY.gpus[0], free_bytes=20 * GIB)
    twins = replace(BUSY, gpus=(second, BUSY.gpus[1]))
    first = planned(twins, workers="1").plans[0]
    planned_setup = Setup.of(first)
    faster = replace(planned_setup, precision="fp32")
    rows = [
        Measurement(planned_setup, "measured", figures(0.5)),
        Measurement(faster, "measured", figures(0.1)),
    ]
    workers = plan_workers(twins, Given(), S1, rows)
    assert [plan.precision.value for plan in workers.plans] == ["fp32", "fp32"]
    assert [plan.precision.source for plan in workers.plans] == ["measured", "measured"]
    assert len(set(devices(workers))) == 2


# -- CPUs ------------------------------------------------------------------------------------------


def test_a_large_checkpoint_has_one_worker_on_every_cpu() -> None:
    for name, hardware in HARDWARE.items():
        if not hardware.gpus:
            try:
                workers = planned(hardware, device="auto")
            except NotEnoughMemory:
                continue  # nor has it one
            assert workers.number.value == 1, name


def test_two_cores_have_one_worker_of_a_small_checkpoint_too() -> None:
    two = replace(EIGHT_CORES.cpu, topology=EIGHT_CORES.cpu.topology[:2])
    assert planned(replace(EIGHT_CORES, cpu=two), DEMO).number.value == 1


def test_cores_that_a_small_checkpoint_leaves_have_workers() -> None:
    workers = planned(EIGHT_CORES, DEMO)
    assert workers.number.value == 8 // CORES_FOR_EACH
    assert "one thread" in workers.number.reason
    assert {plan.num_threads.value for plan in workers.plans} == {1}
    many = HARDWARE["amd_threadripper_3970x"]
    assert planned(many, DEMO).number.value == MOST_SMALL


def test_workers_of_a_cpu_share_its_cores_and_its_memory() -> None:
    (alone,), parts = planned(EIGHT_CORES, workers="1").plans, planned(EIGHT_CORES, workers="2")
    assert parts.number.source == "user"
    assert [plan.num_threads.value for plan in parts.plans] == [4, 4]
    assert alone.num_threads.value == 8
    cpus = [set(plan.cpu_affinity.value) for plan in parts.plans]
    assert cpus[0] | cpus[1] == set(alone.cpu_affinity.value)
    assert not cpus[0] & cpus[1]
    assert all(plan.cache_limit_mb.value <= alone.cache_limit_mb.value for plan in parts.plans)


def test_workers_stay_on_the_cpus_that_the_user_names() -> None:
    named = Given(cpu_affinity="0,2,4,6", num_threads=2)
    plans = plan_workers(EIGHT_CORES, named.model_copy(update={"workers": "2"}), S1).plans
    assert [plan.cpu_affinity.value for plan in plans] == [(0, 2), (4, 6)]
    assert [plan.num_threads.value for plan in plans] == [2, 2]
    with pytest.raises(BadSetting, match=r"4 cores may be used.* Set SHOAL_WORKERS=2"):
        plan_workers(EIGHT_CORES, named.model_copy(update={"workers": "3"}), S1)


def test_workers_that_are_not_to_be_pinned_are_not() -> None:
    plans = planned(EIGHT_CORES, workers="2", cpu_affinity="off").plans
    assert [plan.cpu_affinity.value for plan in plans] == [(), ()]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"workers": "9"}, "Set SHOAL_WORKERS=8, or auto"),
        (
            {"workers": "3", "num_threads": 4},
            "computes with 4 threads. Set SHOAL_WORKERS=2, or auto",
        ),
    ],
)
def test_more_workers_than_cores_are_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(BadSetting, match=told):
        planned(EIGHT_CORES, DEMO, **values)


def test_workers_that_memory_does_not_hold_are_refused() -> None:
    memory = Memory(6 * GIB, 6 * GIB, 6 * GIB, "machine")
    with pytest.raises(BadSetting, match=r"SHOAL_WORKERS=8: .*memory.* Set SHOAL_WORKERS=[1-4],"):
        planned(replace(EIGHT_CORES, memory=memory), workers="8")


def test_a_mac_has_one_gpu() -> None:
    mac = next(each for each in HARDWARE.values() if each.has_mps)
    device = planned(mac, DEMO, device="mps").plans[0].device.value
    assert device == "mps"
    with pytest.raises(BadSetting, match="one device, for one worker"):
        planned(mac, DEMO, device="mps", workers="2")


# -- the setting, and how it is told ---------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "100", "2 "])
def test_nonsense_is_refused_by_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_WORKERS", value)
    with pytest.raises(BadSetting, match=r"SHOAL_WORKERS.*got"):
        load_settings(None)


def test_what_is_planned_is_told_for_each() -> None:
    workers = planned(TWO)
    deployment = Deployment(TWO, S1, workers.plans[0], workers.plans[1:], workers.number)
    told = workers_json(deployment)
    assert (told["count"], told["source"]) == (2, "machine")
    assert [one["device"] for one in told["each"]] == ["cuda:1", "cuda:0"]
    assert [one["device_uuid"] for one in told["each"]] == [gpu.uuid for gpu in TWO.gpus[::-1]]
    each = deployment.each()
    assert [one.plan for one in each] == list(workers.plans)
    assert not any(one.more for one in each)


def test_the_table_names_several_and_why() -> None:
    workers = planned(TWO)
    console = Console(width=200, record=True)
    console.print(plan_table(workers.plans[0], TWO, S1, workers.number))
    assert "one for each GPU: cuda:1, cuda:0" in console.export_text()


# -- memory that workers share ---------------------------------------------------------------------


def test_parts_are_what_is_free_while_nobody_speaks() -> None:
    idle = MemoryNow(1000, 200, 200)
    assert part_of(idle, [idle]).free_bytes == 500
    assert part_of(idle, []).free_bytes == 1000


def test_what_one_takes_is_of_its_part() -> None:
    taking, other = MemoryNow(700, 500, 200), MemoryNow(700, 200, 200)
    mine, theirs = part_of(taking, [other]), part_of(other, [taking])
    assert (mine.free_bytes, theirs.free_bytes) == (200, 500)
    assert mine.free_bytes + mine.working_bytes == theirs.free_bytes + theirs.working_bytes
    over = part_of(MemoryNow(100, 1100, 200), [MemoryNow(100, 200, 200)])
    assert over.free_bytes == -400
