"""The report: what is read from the log, what is drawn, and what is said when it cannot be."""

import base64
import importlib
import json
import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BadSetting
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.rows import RealtimeRow, timestamp
from backend.monitoring.sample import Observed, Sample
from backend.monitoring.synthesis import Ending, synthesis_row
from backend.report.history import read_history
from backend.report.page import write_report
from tests.monitored import plan, start, stats

BEGAN_S = 1_762_600_000.0


def write_log(
    directory: Path, tier: str, requests: int = 40, *, seed: int = 1, throttles: bool = False
) -> None:
    """A tier's afternoon: requests of many lengths, a pause in the middle, heat towards the end."""
    draw = random.Random(seed)
    is_gpu = tier.startswith("gpu")
    log = CsvLog(directory, tier, 1 << 24)
    log.write_hardware_specs({"cpu": "a <fast> one", "cores": 8})
    at_s = BEGAN_S
    for number in range(requests):
        at_s += 900.0 if number == requests // 2 else 0.5
        length = draw.randint(20, 2000 if is_gpu else 300)
        audio_s = length * 0.07
        heat_c = min(96.0, 45 + 1.5 * number) if throttles else 62.0
        slowness = 1.0 + max(0.0, (heat_c - 85) / 12) + draw.uniform(0, 0.1)
        total_s = (0.3 + audio_s * (0.4 if is_gpu else 2.2)) * slowness
        observed = Observed()
        moment_s = at_s
        while moment_s < at_s + total_s:
            sample = Sample(
                moment_s,
                cpu_pct=draw.uniform(15, 40) if is_gpu else draw.uniform(84, 99),
                memory_pct=50 + 40 * number / requests,
                gpu_memory_mb=7000 + 3 * length if is_gpu else None,
                gpu_util_pct=40 + 25 * math.sin(moment_s) if is_gpu else None,
                gpu_util_source="nvml" if is_gpu else "none",
                temperature_c=heat_c + draw.uniform(-1, 1),
            )
            observed.add(sample)
            log.append(
                RealtimeRow(
                    timestamp=timestamp(sample.at_s),
                    cpu_pct=sample.cpu_pct,
                    memory_pct=sample.memory_pct,
                    gpu_memory_mb=sample.gpu_memory_mb,
                    gpu_util_pct=sample.gpu_util_pct,
                    temperature_c=sample.temperature_c,
                    running=1,
                )
            )
            moment_s += 0.5
        at_s += total_s
        of = start(
            f"{tier}-{number}",
            plan=plan(tier, "cuda:0" if is_gpu else "cpu"),
            text_length=length,
            spoken_length=length,
        )
        if number % 13 == 5:
            ending = Ending("failed", total_s, 504, "timed_out", "too slow")
        elif number % 17 == 7:
            ending = Ending("aborted", total_s, None, "aborted", "the client left")
        else:
            ending = Ending(
                *("success", total_s, 200),
                first_audio_s=0.25 * slowness,
                audio_s=audio_s,
                stats=stats(audio_s=audio_s, generated_tokens=int(audio_s * 21.5)),
            )
        log.append(synthesis_row(of, ending, observed, at_s))
    refused = Ending("refused", 0.0, 413, "text_too_long", "send less")
    log.append(synthesis_row(start(plan=plan(tier)), refused, Observed(), at_s))
    log.close()


def break_off(file: Path) -> None:
    """Cut the last line in its middle, as a kill does."""
    file.write_bytes(file.read_bytes()[:-40])


def test_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    write_log(tmp_path, "gpu_high", 20)
    write_log(tmp_path, "m1_air", 16, throttles=True)
    files = write_report(tmp_path)
    assert files.page == tmp_path / "report" / "report.html"
    names = {picture.stem for picture in files.pictures}
    assert names == {
        *("rtf_by_text_length", "waiting_times", "outcomes"),
        *("memory_and_gpu_gpu_high", "heat_and_throttling_gpu_high"),
        *("memory_and_gpu_m1_air", "heat_and_throttling_m1_air"),
    }
    page = files.page.read_text(encoding="utf-8")
    shown = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^']+)'", page)]
    assert shown == [picture.read_bytes() for picture in files.pictures]
    assert all(png.startswith(b"\x89PNG") and len(png) > 5000 for png in shown)
    assert not re.search(r"https?://|<script|<link", page)
    assert "38 requests from 2025-11-08" in page
    assert "&lt;fast&gt;" in page
    assert "<fast>" not in page


def test_summary_says_what_the_log_says(tmp_path: Path) -> None:
    write_log(tmp_path, "intel_i5", 16)
    page = write_report(tmp_path, tmp_path / "elsewhere").page.read_text(encoding="utf-8")
    assert "<td>14 success, 1 failed, 1 refused, 1 aborted</td>" in page
    (tier,) = read_history(tmp_path).tiers
    rtfs = sorted(request.rtf or 0.0 for request in tier.requests if request.is_success)
    median = (rtfs[6] + rtfs[7]) / 2
    assert f"<th>RTF, median / p95</th><td>{median:.3g} /" in page
    assert "<th>peak GPU utilisation</th><td>-</td>" in page
    assert "<th>highest temperature</th><td>63 °C</td>" in page


def test_nothing_of_matplotlib_is_imported_before_it_draws() -> None:
    code = (
        "import sys, backend.report.page\n"
        "sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_a_row_names_its_own_tier(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "gpu_high", 4096)  # the plan of the server's start
    of = start(plan=plan("generic_cpu", "cpu"))
    log.append(synthesis_row(of, Ending("success", 2.0, audio_s=4.0), Observed(), BEGAN_S))
    log.close()
    assert [tier.tier for tier in read_history(tmp_path).tiers] == ["generic_cpu"]


def test_requests_slowed_down_by_heat_are_found(tmp_path: Path) -> None:
    write_log(tmp_path, "m1_air", 40, throttles=True)
    write_log(tmp_path, "gpu_high", 40)
    cool, hot = read_history(tmp_path).tiers
    assert cool.slowed_down() == []
    slow = hot.slowed_down()
    assert len(slow) >= 5
    assert all((request.peak_temperature_c or 0) > 85 for request in slow)
    spoken = [request for request in hot.requests if request.is_success]
    early = spoken[: len(spoken) // 2]
    assert not set(early) & set(slow)
    cooled = [replace(r, peak_temperature_c=None, peak_cpu_pct=20.0) for r in hot.requests]
    no_pressure = replace(hot, requests=tuple(replace(r, peak_memory_pct=50.0) for r in cooled))
    assert no_pressure.slowed_down() == []


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    write_log(tmp_path, "gpu_high", 6)
    whole = read_history(tmp_path)
    for file in tmp_path.glob("*.csv"):
        break_off(file)
    torn = read_history(tmp_path)
    assert whole.torn_lines == 0
    assert torn.torn_lines == 2
    assert len(torn.tiers[0].requests) == len(whole.tiers[0].requests) - 1
    assert torn.tiers[0].load.at_s.size == whole.tiers[0].load.at_s.size - 1
    assert "2 unfinished lines" in write_report(tmp_path).page.read_text(encoding="utf-8")


def test_a_line_torn_within_its_last_cell_is_torn(tmp_path: Path) -> None:
    file = tmp_path / "synthesis_a_20251108_120000.csv"
    file.write_text("request_id,rtf\r\na,12.6\r\nb,12")
    history = read_history(tmp_path)
    assert [request.rtf for request in history.tiers[0].requests] == [12.6]
    assert history.torn_lines == 1


def test_columns_of_other_versions_may_be_missing(tmp_path: Path) -> None:
    first = tmp_path / "synthesis_gpu_mid_20251108_120000.csv"
    first.write_text(
        "timestamp,request_id,success,total_duration_s,audio_duration_s,new_column\n"
        "2025-11-08T12:00:00,a,True,290,23,1\n"
        "1762600000.5,b,False,3,,1\n"
    )
    (tmp_path / "realtime_gpu_mid_20251108_120000.csv").write_text(
        "timestamp,cpu_pct\n2025-11-08T12:00:00Z,50\n2025-11-08T12:00:01Z,n/a\nnever,1\n"
    )
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "hardware_specs_gpu_mid.json").write_text("{torn")
    history = read_history(tmp_path)
    (tier,) = history.tiers
    assert history.files[0].name.startswith("realtime")
    assert len(history.files) == 2
    spoken, failed = sorted(tier.requests, key=lambda request: request.outcome, reverse=True)
    assert spoken.outcome == "success"
    assert spoken.rtf == pytest.approx(12.6, abs=0.01)
    assert failed.ended_s == 1762600000.5
    assert tier.load.at_s.size == 2
    assert tier.load.share_over("cpu_pct", 40) == 1.0
    assert tier.load.share_over("memory_pct", 40) is None
    assert len(write_report(tmp_path).pictures) == 3  # nothing is known of text length or memory


def test_files_after_a_rotation_are_one_tier(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "gpu_high", 4096)
    for number in range(30):
        ending = Ending("success", 2.0, audio_s=4.0, stats=stats())
        log.append(synthesis_row(start(str(number)), ending, Observed(), BEGAN_S + number))
    log.close()
    history = read_history(tmp_path)
    assert len(history.files) > 2
    (tier,) = history.tiers
    assert len(tier.requests) == 30
    assert [request.rtf for request in tier.requests] == [0.5] * 30


def test_refused_requests_alone_make_a_report(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, "gpu_high", 4096)
    refused = Ending("refused", 0.0, 413, "text_too_long", "send less")
    log.append(synthesis_row(start(), refused, Observed(), BEGAN_S))
    log.close()
    assert [picture.stem for picture in write_report(tmp_path).pictures] == ["outcomes"]


@pytest.mark.parametrize("name", ["", "missing"])
def test_nothing_to_draw_is_a_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSetting, match="holds no request log"):
        write_report(tmp_path / name)


def test_without_matplotlib_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path, "gpu_high", 2)
    load = importlib.import_module

    def without_matplotlib(name: str, package: str | None = None) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", without_matplotlib)
    with pytest.raises(BadSetting, match=re.escape("pip install 'shoal-tts[report]'")):
        write_report(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    write_log(tmp_path, "gpu_high", 2)
    in_the_way = tmp_path / "taken"
    in_the_way.write_text("a file")
    with pytest.raises(BadSetting, match="cannot be written"):
        write_report(tmp_path, in_the_way)


def test_hardware_specs_are_read_back(tmp_path: Path) -> None:
    write_log(tmp_path, "gpu_high", 2)
    specs = json.loads((tmp_path / "hardware_specs_gpu_high.json").read_text(encoding="utf-8"))
    assert read_history(tmp_path).tiers[0].hardware_specs == specs
