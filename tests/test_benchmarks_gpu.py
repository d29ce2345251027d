"""What benchmarks.gpu computes beside the device: floor, prompts, arrivals, table."""

from pathlib import Path

import pytest

from backend.bench.random_checkpoint import S1_MINI
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.config import DualARConfig
from backend.model.reading import longest_s
from benchmarks import gpu_decode
from benchmarks.gpu_report import Report
from benchmarks.gpu_table import (
    BAR,
    Floor,
    Row,
    arrivals_s,
    markdown,
    percentile,
    put_upstream,
    spread,
)
from benchmarks.gpu_worker import text_for
from tests.tiny import tiny_checkpoint

COPY_BYTES_S = 3.033e12
"""What an H100 copied when the bar was set."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint(tmp_path_factory.mktemp("tiny"), end_scale=0.0))


def test_the_floor_of_one_stream_is_its_weights_and_its_context() -> None:
    floor = Floor.of(DualARConfig.from_json(S1_MINI), 2, COPY_BYTES_S)
    assert floor.position_bytes == 28 * 2 * 8 * 128 * 2
    step_bytes = floor.weight_bytes + 256 * floor.position_bytes
    assert floor.frames_s(1, 256) == pytest.approx(COPY_BYTES_S / step_bytes)
    assert floor.frames_s(1, 256) == pytest.approx(1_600, rel=0.03)  # the issue says 1,584


def test_the_floor_of_many_streams_counts_weights_once_and_contexts_all() -> None:
    floor = Floor.of(DualARConfig.from_json(S1_MINI), 2, COPY_BYTES_S)
    assert floor.frames_s(128, 128 * 500) == pytest.approx(41_500, rel=0.02)  # it says 41,000
    assert floor.frames_s(128, 0) == pytest.approx(128 * floor.frames_s(1, 0))


def test_the_floor_reads_what_the_model_says_that_it_reads(checkpoint: Checkpoint) -> None:
    floor = Floor.of(checkpoint.config, 4, COPY_BYTES_S)
    norms = 2 * checkpoint.config.slow.dim * 4  # of a share that decides nothing
    assert floor.weight_bytes == pytest.approx(
        checkpoint.model.weight_bytes_per_frame(), abs=10 * norms
    )


@pytest.mark.parametrize(("share", "value"), [(0.5, 3), (0.95, 5), (0.2, 1), (0.21, 2), (1.0, 5)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([5, 1, 4, 2, 3], share) == value


def test_mixed_contexts_have_their_mean_in_the_middle_and_the_longest_first() -> None:
    contexts = spread(128, 100, 900)
    assert (contexts[0], contexts[-1]) == (900, 100)
    assert sum(contexts) / 128 == pytest.approx(500, abs=1)
    assert contexts == sorted(contexts, reverse=True)
    assert spread(1, 100, 900) == [500]


def test_arrivals_come_at_the_rate_that_was_asked_for_and_are_the_same_each_time() -> None:
    moments = arrivals_s(20.0, 1000, 1e9, seed=0)
    assert moments == arrivals_s(20.0, 1000, 1e9, seed=0) != arrivals_s(20.0, 1000, 1e9, seed=1)
    assert moments[-1] / 1000 == pytest.approx(1 / 20, rel=0.1)
    assert moments == sorted(moments)
    assert arrivals_s(20.0, 1000, 2.0, seed=0) == [at_s for at_s in moments if at_s <= 2.0]


def test_a_text_is_as_long_as_its_frames_allow() -> None:
    rate_hz = 44_100 / 2048
    text = text_for(200, rate_hz)
    assert longest_s(len(text), 0.0) * rate_hz <= 200
    assert longest_s(len(text) + 2, 0.0) * rate_hz > 200
    assert text_for(1, rate_hz) == "."


@pytest.mark.parametrize("tokens", [48, 49, 300])
def test_a_prompt_has_as_many_tokens_as_were_asked_for(checkpoint: Checkpoint, tokens: int) -> None:
    assert len(gpu_decode.prompt_of(checkpoint, tokens, seed=1)) == tokens


def test_decoding_is_measured_at_the_contexts_that_were_asked_for(checkpoint: Checkpoint) -> None:
    contexts = [120, 100, 80]
    (once, again) = gpu_decode.decode(checkpoint, contexts, steps=6, repeats=2, way="auto")
    for found in (once, again):
        assert found.positions / 3 == pytest.approx(100, abs=8)
        assert found.frames_s == pytest.approx(3000 / found.step_ms)
    assert gpu_decode.median([once, again]).frames_s == min(once.frames_s, again.frames_s)


def test_a_way_that_the_engine_does_not_have_is_an_error(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="no way 'warp'"):
        gpu_decode.decode(checkpoint, [64], steps=1, repeats=1, way="warp")


def test_the_table_shows_each_row_beside_floor_bar_and_upstream() -> None:
    row = Row("decode_1", "1 stream", "660")
    row.against(1600, 660)
    failed = Row("pcm_1", "text to PCM", "failed: it | broke\nbadly")
    put_upstream(
        [row, failed], {"compiled": {"frames_s_256": 206.0, "compile_s": 258.0}}, 44_100 / 2048
    )
    _, _, first, second = markdown([row, failed]).splitlines()
    assert first == f"| 1 stream | 660 | 1,600 | 0.41 | {BAR['decode_1']} |  | 206.0 |"
    assert "failed: it / broke badly" in second
    assert "at least RTF 0.105" in second


def test_a_row_that_fails_is_told_and_the_next_goes_on(tmp_path: Path) -> None:
    report = Report({}, {}, 21.5, ("decode_1", "pcm_1", "pcm_many"), tmp_path)
    with report.row("decode_1", "1 stream"):
        _break("no such kernel")
    with report.row("pcm_1", "text to PCM") as row:
        row.value, row.ours = 0.04, "RTF 0.04"
    with report.stage("pcm_1", "pcm_many", "memory"):
        _break("the worker is gone")
    told = {row.name: row.ours for row in report.rows}
    assert told == {
        "decode_1": "failed: RuntimeError: no such kernel",
        "pcm_1": "RTF 0.04",
        "pcm_many": "failed: RuntimeError: the worker is gone",
    }
    assert (report.last("decode_1"), report.last("pcm_1")) == (None, 0.04)
    assert '"value": 0.04' in (tmp_path / "gpu.json").read_text("utf-8")


def _break(why: str) -> None:
    raise RuntimeError(why)
