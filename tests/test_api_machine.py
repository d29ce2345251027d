"""What the machine is and how it fares, over HTTP; the worker is scripted."""

import asyncio
import csv
import json
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.core import Plan, Sentence, SpeechRequest
from backend.errors import NotEnoughMemory
from backend.hardware.memory import MemoryNow
from backend.hardware.usage import MachineUsage
from backend.serving import intake
from backend.serving.script import written
from backend.smart_backend import SmartBackend
from tests.scripted import children, client
from tests.test_hardware_plans_of_machines import HARDWARE

TEXT = {"text": "Hello there."}
ACTIONS = {
    "Reduce text length or clear cache",
    "Wait for system to cool",
    "Reduce CPU load",
    "OK",
}
MIB = 1024 * 1024
CHOICES = sum("Choice" in str(field.type) for field in fields(Plan))
"""What the plan decides, each with its reason."""


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def rows_of(folder: Path, kind: str) -> list[dict[str, str]]:
    (log,) = folder.glob(f"{kind}_*.csv")
    with log.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def with_load(monkeypatch: pytest.MonkeyPatch, memory_percent: float, cpu_percent: float) -> None:
    measured = MachineUsage.resources

    def told(live: MachineUsage) -> dict[str, Any]:
        return measured(live) | {
            "memory_percent": memory_percent,
            "cpu_percent": cpu_percent,
            "temperatures_c": {},
        }

    monkeypatch.setattr(MachineUsage, "resources", told)


def with_free(monkeypatch: pytest.MonkeyPatch, free_mb: int) -> None:
    def told(live: MachineUsage) -> MemoryNow:
        return MemoryNow(free_mb * MIB, 0)

    monkeypatch.setattr(MachineUsage, "memory", told)


def test_hardware_tells_what_was_found_and_chosen_and_why() -> None:
    async def work() -> None:
        async with client(num_threads=1) as http:
            told = (await http.get("/hardware")).json()
            profile, chosen = told["hardware_profile"], told["selected_configuration"]
            assert profile["cpu"]["logical_cores"] >= 1
            assert profile["memory"]["limit_gib"] > 0
            assert chosen["num_threads"] == 1
            assert chosen["choices"]["num_threads"]["source"] == "user"
            for name, choice in chosen["choices"].items():
                assert choice.keys() == {"value", "reason", "source"}, name
                assert choice["value"] == chosen[name], name
                assert choice["value"] is not None and choice["reason"], name
                assert choice["source"] in ("tier", "machine", "checkpoint", "user"), name
            assert len(chosen["choices"]) == CHOICES
            assert any("quantization" in note for note in chosen["notes"])

    run(work())


def test_system_status() -> None:
    async def work() -> None:
        async with client() as http:
            told = (await http.get("/system-status")).json()
            assert set(told) == {
                *("resources", "throttling_risk", "thermal"),
                *("memory_budget_safe", "memory_ladder", "recommended_action"),
                *("worker", "workers", "rates"),
            }
            assert 0 <= told["resources"]["cpu_percent"] <= 100
            assert 0 < told["resources"]["memory_percent"] < 100
            assert {"memory_critical", "cpu_maxed", "thermal_likely"} <= set(
                told["throttling_risk"]
            )
            assert told["memory_budget_safe"] is True
            assert told["recommended_action"] in ACTIONS

    run(work())


@pytest.mark.parametrize(
    ("memory_percent", "cpu_percent", "action"),
    [
        (86.0, 95.0, "Reduce text length or clear cache"),
        (85.0, 91.0, "Reduce CPU load"),
        (50.0, 10.0, "OK"),
    ],
)
def test_recommended_action(
    monkeypatch: pytest.MonkeyPatch, memory_percent: float, cpu_percent: float, action: str
) -> None:
    with_load(monkeypatch, memory_percent, cpu_percent)

    async def work() -> None:
        async with client() as http:
            told = (await http.get("/system-status")).json()
            assert told["recommended_action"] == action

    run(work())


@pytest.mark.parametrize("form", ["data", "json"])
def test_estimate_memory(form: str) -> None:
    async def work() -> None:
        async with client() as http:
            told = (await http.post("/estimate-memory", **{form: TEXT})).json()  # type: ignore[arg-type]
            assert told["status"] == "ok"
            estimate = told["estimate"]
            assert estimate["text_length"] == len(TEXT["text"])
            assert estimate["safe"] is True
            assert 0 < estimate["estimated_mb"] < 0.8 * estimate["available_mb"]
            assert estimate["formula_mb"] > 0
            assert "recommendation" not in told

    run(work())


TWO = "This is the first of them. And this is the second one."
LONG = "In 1984 there were 1234567 of them, or so they said. " * 10
PLANNED = ("sentences", "expected_s", "expected_audio_s", "wait_s", "speed", "text_limit")


async def estimate(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/estimate-memory", json=fields)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def plan_of(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/tts", json={**fields, "stream": "events"})
    plan: dict[str, Any] = json.loads(answer.text.split("\n")[1].removeprefix("data: "))
    return plan


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"long_text": "split"},
        {"normalize": False},
        {"optimize_for_memory": True},
        {"language": "de"},
    ],
)
def test_an_estimate_tells_what_the_plan_does(fields: dict[str, Any]) -> None:
    async def work() -> None:
        async with client(max_text_length=300) as http:
            told = await estimate(http, text=LONG, **fields)
            plan = await plan_of(http, text=LONG, **fields)
            assert {name: told[name] for name in PLANNED} == {name: plan[name] for name in PLANNED}
            assert (told["wait_s"], told["speed"]) == (0.0, "expected")
            assert told["text_limit"]["is_truncated"] == (fields.get("long_text") != "split")

    run(work())


def test_fields_of_an_estimate_change_what_is_told() -> None:
    async def work() -> None:
        async with client(max_text_length=300) as http:
            usual = await estimate(http, text=LONG)
            split = await estimate(http, text=LONG, long_text="split")
            plain = await estimate(http, text=LONG, normalize=False)
            small = await estimate(http, text=LONG, optimize_for_memory=True)
            assert split["sentences"] > usual["sentences"] < small["sentences"]
            assert plain["expected_audio_s"] < usual["expected_audio_s"], "figures are read out"
            rejected = await estimate(http, text=LONG, long_text="reject")
            assert (rejected["sentences"], rejected["expected_s"]) == (0, 0)
            assert rejected["text_limit"]["spoken_length"] == 0
            for told in (usual, rejected):
                assert told["mends"] == [{"field": "long_text", "value": "split"}]
            assert split["mends"] == []

    run(work())


def test_an_estimate_is_measured_once_something_was_spoken() -> None:
    async def work() -> None:
        async with client() as http:
            before = await estimate(http, text=TWO)
            assert before["expected_audio_s"] == pytest.approx((len(TWO) - 1) / 15, abs=0.001)
            for _ in range(20):
                await http.post("/tts", data={"text": TWO})
            after = await estimate(http, text=TWO)
            assert (before["speed"], after["speed"]) == ("expected", "measured")
            # The worker says 0.1 s to whatever it is asked.
            assert 0.2 < after["expected_audio_s"] < 0.6 * before["expected_audio_s"]
            assert after["expected_s"] < before["expected_s"]

    run(work())


def test_an_estimate_expects_what_the_trial_of_the_checkpoint_took() -> None:
    async def work() -> None:
        async with client(worker={"trial_rtf": 0.5}) as http:
            told = await estimate(http, text=TWO)
            assert told["speed"] == "expected"
            assert told["expected_s"] == pytest.approx(0.5 * told["expected_audio_s"], rel=0.01)

    run(work())


def test_an_estimate_tells_how_long_it_would_wait() -> None:
    async def work() -> None:
        async with client(max_batch=1) as http:
            backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
            async with backend.speak(SpeechRequest("r", "wait", client="another")):
                assert (await estimate(http, **TEXT))["wait_s"] > 0
            assert (await estimate(http, **TEXT))["wait_s"] == 0

    run(work())


def test_the_longest_text_is_counted_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[bool] = []

    def noted(*told: Any) -> Iterator[list[Sentence]]:
        for step in written(*told):
            threads.append(threading.current_thread() is threading.main_thread())
            yield step

    monkeypatch.setattr(intake, "written", noted)

    async def work() -> None:
        async with client() as http:
            text = (LONG * 200)[:100_000]
            assert (await estimate(http, text=text, long_text="split"))["sentences"] > 1000
            plan = await plan_of(http, text=LONG, long_text="split")
            assert plan["sentences"] > 5
        assert len(threads) > 20 and not any(threads)

    run(work())


def test_less_memory_is_a_mend_where_it_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with client() as http:
            fields = {"text": "word " * 500, "long_text": "split"}
            with_free(monkeypatch, 4000)
            usual = await estimate(http, **fields)
            least = await estimate(http, **fields, optimize_for_memory=True)
            peaks = [told["estimate"]["estimated_mb"] for told in (usual, least)]
            assert peaks[1] < peaks[0]
            assert usual["mends"] == []
            with_free(monkeypatch, round(sum(peaks) / 2 / 0.8))
            told = await estimate(http, **fields)
            assert told["status"] == "warning"
            assert told["mends"] == [{"field": "optimize_for_memory", "value": True}]
            told = await estimate(http, **fields, optimize_for_memory=True)
            assert (told["status"], told["mends"]) == ("ok", [])
            # A word is spoken in one small piece anyway.
            with_free(monkeypatch, 1)
            told = await estimate(http, text="Hello.")
            assert (told["status"], told["mends"]) == ("warning", [])

    run(work())


@pytest.mark.parametrize("free_mb", [8000, 100])
def test_the_cpu_is_a_mend_where_the_gpu_is_full_and_the_cpu_is_not(
    monkeypatch: pytest.MonkeyPatch, free_mb: int
) -> None:
    def told(live: MachineUsage) -> MemoryNow:
        return MemoryNow(0 if live.card else free_mb * MIB, 0)

    async def work() -> None:
        async with client({"device": "cuda:0"}, found=HARDWARE["rtx_3060_8gb"]) as http:
            monkeypatch.setattr(MachineUsage, "memory", told)
            mends = [{"field": "force_cpu", "value": True}] if free_mb > 1000 else []
            answer = await estimate(http, text="Hello.")
            assert (answer["status"], answer["mends"]) == ("warning", mends)
            assert len(children()) == 1, "nothing is started for that"

    run(work())


def test_an_unsafe_estimate_recommends_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with client() as http:
            with_free(monkeypatch, 4)
            told = (await http.post("/estimate-memory", data={"text": "word " * 500})).json()
            assert told["status"] == "warning"
            assert told["estimate"]["safe"] is False
            assert told["recommendation"]

    run(work())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"text": "  "}, 400, "blank"),
        ({"text": "a" * 100_001}, 413, "100000"),
        ({}, 422, "text is missing"),
        ({"text": "a", "texts": "b"}, 422, "did you mean text"),
        ({"text": 5}, 422, "text"),
        ({**TEXT, "language": "xx"}, 422, "language"),
        ({**TEXT, "long_text": "cut"}, 422, "long_text"),
        ({**TEXT, "normalize": "maybe"}, 422, "normalize"),
        ({**TEXT, "speed": 2}, 422, "speed"),
        ({**TEXT, "speaker_file": "UklGRg=="}, 422, "speaker_file"),
    ],
)
def test_estimate_memory_refuses_in_one_sentence(
    body: dict[str, Any], status: int, says: str
) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post("/estimate-memory", json=body)
            assert answer.status_code == status
            assert says in answer.json()["detail"]

    run(work())


def test_a_request_that_cannot_fit_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def work() -> None:
        async with client(metrics=True, metrics_dir=tmp_path) as http:
            with_free(monkeypatch, 1)
            answer = await http.post("/tts", data=TEXT)
            assert answer.status_code == 503
            assert "Memory is short" in answer.json()["detail"]
            assert answer.headers["Retry-After"]

    run(work())
    (row,) = rows_of(tmp_path, "synthesis")
    assert (row["outcome"], row["error_code"]) == ("refused", "over_capacity")


def test_a_worker_that_would_not_fit_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 100)

    async def work() -> None:
        with pytest.raises(NotEnoughMemory, match="shoal-demo takes"):
            async with client():
                pass

    run(work())


def test_the_text_limit_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        fields = {"text": "word " * 400}
        async with client() as http:
            planned = (await http.get("/hardware")).json()["selected_configuration"]
            raised = await http.post("/tts", data=fields)
            assert raised.headers["X-Max-Text-Length"] == str(planned["max_text_length_ceiling"])
            assert "raised from" in raised.headers["X-Warning"]
            with_free(monkeypatch, 57)  # enough for the planned length, not for twice what it takes
            usual = await http.post("/tts", data=fields)
            assert usual.headers["X-Max-Text-Length"] == str(planned["max_text_length"])
        monkeypatch.undo()
        async with client(dynamic_text_limit=False) as http:
            fixed = await http.post("/tts", data=fields)
            assert fixed.headers["X-Max-Text-Length"] == str(planned["max_text_length"])

    run(work())


def test_leases_are_released_whatever_becomes_of_a_request() -> None:
    async def work() -> None:
        async with client() as http:
            backend = http._transport.app.state.backend  # type: ignore[attr-defined]
            for text in ("Hello.", "bad reference", "crash"):
                await http.post("/tts", data={"text": text})
                assert backend.lane.memory.leased_bytes == 0
                await backend.worker.ready()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await http.post("/tts", data={"text": "wait"})
            assert backend.lane.memory.leased_bytes == 0

    run(work())


def test_optimize_halves_under_pressure_and_undoes_it_step_by_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "messages"

    async def work() -> None:
        async with client({"log_file": str(log)}, num_threads=2) as http:
            with_load(monkeypatch, 90.0, 95.0)
            told = (await http.post("/optimize-for-hardware")).json()
            before, after = told["previous_config"], told["new_config"]
            assert told["status"] == "adjusted"
            assert after == {
                "chunk_length": before["chunk_length"] // 2,
                "num_threads": 1,
                "cache_limit": before["cache_limit"] // 2,
                "max_text_length": before["max_text_length"] // 2,
            }
            assert log.read_text().split() == ["ClearCaches", "Configure"]
            spoken = await http.post("/tts", data={"text": "word " * 60})
            assert spoken.headers["X-Max-Text-Length"] == str(after["max_text_length"])
            running = (await http.get("/hardware")).json()["running_configuration"]
            assert running == after | {"way": "eager"}
            await http.post("/optimize-for-hardware")
            with_load(monkeypatch, 40.0, 20.0)
            told = (await http.post("/optimize-for-hardware")).json()
            one_step_back = after | {"num_threads": before["num_threads"]}
            assert (told["status"], told["new_config"]) == ("adjusted", one_step_back)
            told = (await http.post("/optimize-for-hardware")).json()
            assert (told["status"], told["new_config"]) == ("optimal", before)

    run(work())


def test_emotions_come_from_the_reference() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            told = (await http.get("/emotions")).json()
            assert "reference audio" in told["summary"]
            assert {"!", "?", "...", "—"} <= set(told["prosody_markers"])
            assert told["reference_audio_tips"] and told["instead_of_tags"]
            assert "(laughing)" in told["sound_effects"]["may_work"]

    run(work())


def test_cache_clear() -> None:
    async def work() -> None:
        async with client() as http:
            told = (await http.post("/cache/clear")).json()
            assert told == {"status": "cleared", "freed_mb": round(4096 / MIB, 2)}

    run(work())


def test_metrics_as_json_and_for_prometheus() -> None:
    async def work() -> None:
        async with client() as http:
            await http.post("/tts", data=TEXT)
            await http.post("/tts", data={"text": " "})
            told = (await http.get("/metrics")).json()
            assert told["since_start"]["outcomes"]["success"] == 1
            assert told["since_start"]["refusals"] == {"blank_text": 1}
            assert told["worker"]["ready"] is True
            for path, accept in (("/metrics", "text/plain"), ("/metrics/prometheus", "*/*")):
                answer = await http.get(path, headers={"Accept": accept})
                assert answer.headers["Content-Type"].startswith("text/plain; version=")
                assert 'shoal_requests_total{outcome="success"} 1.0' in answer.text
                assert 'shoal_refusals_total{reason="blank_text"} 1.0' in answer.text

    run(work())


def test_every_request_leaves_a_row(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(metrics=True, metrics_dir=tmp_path) as http:
            together = [http.post("/tts", data={"text": f"slow {i}"}) for i in range(3)]
            refused = http.post("/tts", data={"text": " "})
            failed = http.post("/tts", data={"text": "bad reference"})
            await asyncio.gather(*together, refused, failed)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await http.post("/tts", data={"text": "wait"})

    run(work())
    rows = rows_of(tmp_path, "synthesis")
    outcomes = sorted(row["outcome"] for row in rows)
    assert outcomes == ["aborted", "failed", "refused", *["success"] * 3]
    for row in rows:
        if row["outcome"] == "success":
            rtf = float(row["total_duration_s"]) / float(row["audio_duration_s"])
            assert float(row["rtf"]) == pytest.approx(rtf, rel=1e-3)
    assert len(rows_of(tmp_path, "realtime")) >= 5
    (specs,) = tmp_path.glob("hardware_specs_*.json")
    assert json.loads(specs.read_text())["selected_configuration"]["tier"]


def test_the_worker_down_is_503_for_what_needs_it() -> None:
    async def work() -> None:
        async with client({"start_s": 30.0}, is_ready=False) as http:
            for path in ("/optimize-for-hardware", "/cache/clear", "/estimate-memory"):
                answer = await http.post(path, data=TEXT)
                assert answer.status_code == 503, path
            for path in ("/hardware", "/system-status", "/emotions", "/metrics"):
                assert (await http.get(path)).status_code == 200, path

    run(work())
