"""What a checkpoint needs: against what is really loaded, and what a request adds."""

import asyncio
import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.core import MIB, Quantization
from backend.engine.prompt import Prompt, frame_limit
from backend.errors import BadCheckpoint
from backend.hardware.need import ELEMENT_BYTES, CheckpointShape, Reading, RequestNeed
from backend.model.checkpoint import load_checkpoint
from backend.model.config import capacities, last_capacity
from backend.model.layers import stored_bytes
from backend.model.quantize import has_kernel
from backend.model.reading import wide_share
from backend.settings import SHIPPED_VOICE_DIR
from benchmarks.memory import Case, measure
from tests.computers import DEMO, S1
from tests.engines import tiny
from tests.kernels_in_c import native_pool
from tests.tiny import tiny_checkpoint

CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
KINDS: tuple[Quantization, ...] = ("none", "int8", "int4")
READINGS: tuple[Reading, ...] = ("expected", "longest")


# --- weights


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"intermediate_size": 80}, {"tie_word_embeddings": False}],
    ids=["tiny", "odd columns", "untied"],
)
def test_weights_are_those_of_the_loaded_checkpoint(
    tmp_path: Path, precision: str, kind: Quantization, changes: dict[str, Any]
) -> None:
    folder = tiny_checkpoint(tmp_path, **changes)
    loaded = load_checkpoint(
        folder, dtype=TYPES[precision], codec_dtype=torch.float32, quantization=kind
    )
    held = stored_bytes(loaded.model) + stored_bytes(loaded.codec)
    # Only torch's own kernel pads; without it rows stay as they are, as on MPS.
    device = "cpu" if has_kernel(4, CPU) else "mps"
    shape = CheckpointShape.from_folder(folder)
    encoder = 4 * shape.codec.encoding_parameters if device == "cpu" else 0
    shape = dataclasses.replace(shape, decoder_bytes=4)
    assert shape.weight_bytes(precision, kind, device) == held - encoder


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_what_is_packed_for_the_kernels(
    tmp_path: Path, precision: str, kind: Quantization
) -> None:
    folder = tiny_checkpoint(tmp_path)
    loaded = load_checkpoint(
        folder,
        dtype=TYPES[precision],
        codec_dtype=torch.float32,
        quantization=kind,
        pool=native_pool(),
    )
    shape = dataclasses.replace(CheckpointShape.from_folder(folder), decoder_bytes=2)
    held = stored_bytes(loaded.model) + stored_bytes(loaded.codec)
    held -= 4 * shape.codec.encoding_parameters + 2 * shape.codec.decoding_parameters
    # Here scales take two bytes more, norms are in float32, and rows are filled up to tiles.
    assert shape.weight_bytes(precision, kind) == pytest.approx(held, rel=0.03)


def test_weights_of_openaudio_s1_mini() -> None:
    # As measured on an H200, all tensors of the loaded random checkpoint: what decodes was in
    # float32 then, and is in 16 bits now.
    saved_mib = 2 * S1.codec.decoding_parameters / MIB
    held: dict[Quantization, float] = {"none": 2837.461, "int8": 2362.210}
    for quantization, held_mib in held.items():
        found_mib = S1.weight_bytes("bf16", quantization, "cuda:0") / MIB
        assert found_mib == pytest.approx(held_mib - saved_mib, abs=1e-3)


def test_fewer_bits_are_fewer_bytes() -> None:
    for shape in (S1, DEMO):
        none, int8, int4 = (shape.weight_bytes("bf16", kind) for kind in KINDS)
        assert none > int8 > int4


def test_a_gpu_holds_the_drivers_context_and_a_process_its_libraries() -> None:
    weights = S1.weight_bytes("bf16", "none")
    on_gpu = S1.resident_bytes("bf16", "none", "cuda:0", 1)
    on_gpu -= S1.weight_bytes("bf16", "none", "cuda:0")
    on_cpu = S1.resident_bytes("bf16", "none", "cpu", 1) - weights
    assert 600 * MIB < on_gpu < 1000 * MIB
    assert 200 * MIB < on_cpu < 400 * MIB
    many = S1.resident_bytes("bf16", "none", "cuda:0", 128)
    many -= S1.weight_bytes("bf16", "none", "cuda:0")
    assert many - on_gpu == S1.codec.stage_bytes(128) - S1.codec.stage_bytes(1)
    assert S1.resident_bytes("bf16", "none", "cpu", 128) == weights + on_cpu


def test_a_gpu_has_what_the_codec_takes_of_rows_from_the_start() -> None:
    on_gpu = S1.request_need(600, "bf16", 200, device="cuda:0")
    assert on_gpu.own_bytes == 0
    assert S1.request_need(600, "bf16", 200).own_bytes > 3 * S1.codec.stream_bytes


# --- the folder


def test_the_shape_is_that_of_the_checkpoint() -> None:
    shape = CheckpointShape.from_folder(SHIPPED_VOICE_DIR)
    loaded = load_checkpoint(SHIPPED_VOICE_DIR)
    assert (shape.model, shape.codec, shape.info) == (
        loaded.config,
        loaded.codec_config,
        loaded.info,
    )
    assert shape.name == "shoal-demo"


def test_an_official_folder_has_the_official_codec(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "official")
    (folder / "codec.json").unlink()
    (folder / "shoal.json").unlink()
    shape = CheckpointShape.from_folder(folder)
    assert shape.codec.sample_rate_hz == 44_100
    assert shape.name == "official"


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot read"), ("{", "is not JSON"), ("[]", "must hold a JSON object")],
)
def test_a_folder_that_is_none(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(BadCheckpoint, match=says):
        CheckpointShape.from_folder(tmp_path)
    with pytest.raises(BadCheckpoint, match="no checkpoint folder"):
        CheckpointShape.from_folder(tmp_path / "nothing")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}), "utf-8")
    with pytest.raises(BadCheckpoint, match="model_type 'llama'"):
        CheckpointShape.from_folder(tmp_path)


# --- a request


@pytest.mark.parametrize(("characters", "rows"), [(60, 1), (150, 2), (5000, 3)])
def test_keys_and_values_are_a_row_for_each_segment_at_work(characters: int, rows: int) -> None:
    shape, chunk = DEMO, 80
    need = shape.request_need(characters, "bf16", chunk, reading="longest")
    segment = min(characters, chunk)
    most = shape.prompt_tokens(segment) + shape.frames(segment, "longest")
    position_bytes = shape.model.kv_bytes_per_frame(ELEMENT_BYTES["bf16"])
    assert need.longest_row_bytes == last_capacity(most) * position_bytes
    assert need.cache_bytes == rows * need.longest_row_bytes


def test_a_row_that_is_expected_to_end_early_grows_towards_the_bound_all_the_same() -> None:
    expected, longest = (S1.request_need(200, "bf16", 200, reading=reading) for reading in READINGS)
    prompt, position_bytes = S1.prompt_tokens(200), S1.model.kv_bytes_per_frame(2)
    most = prompt + S1.frames(200, "longest")
    grown = [capacity * position_bytes for capacity in capacities(prompt, most, most)]
    assert expected.longest_row_bytes in grown[:-1]
    assert longest.longest_row_bytes == grown[-1]


def test_while_a_row_grows_it_stands_there_twice() -> None:
    """After four minutes of recordings, keys and values are more than any other workspace."""
    few, many = S1.request_need(1, "bf16", 400), S1.request_need(400, "bf16", 400, 1, 240.0)
    prompt = S1.prompt_tokens(400) + math.ceil(240.0 * S1.codec.frame_rate_hz)
    most = prompt + S1.frames(400, "longest")
    *_, before, last = capacities(prompt, most, most)
    position_bytes = S1.model.kv_bytes_per_frame(2)
    assert many.longest_row_bytes == last * position_bytes
    growing = before * position_bytes - S1.codec.decode_workspace_bytes()
    assert many.passing_bytes == few.passing_bytes + growing


TEXTS = ("Hello there.", "In 1984 there were 12 of them.", "今天天气很好。我们走吧！", "a" * 200)


@pytest.mark.parametrize("text", TEXTS)
def test_the_longest_reading_is_the_engines(text: str) -> None:
    frames = DEMO.frames(len(text), "longest", wide_share(text))
    assert abs(frames - frame_limit(text, DEMO.codec.frame_rate_hz)) <= 1  # rounding
    assert 0 < DEMO.frames(len(text), "expected", wide_share(text)) < frames


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_spelt_in_bytes_has_about_so_many_tokens(text: str) -> None:
    checkpoint, shape = tiny(), CheckpointShape(tiny().config, tiny().codec_config, tiny().info)
    prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, text)
    tokens = shape.prompt_tokens(len(text), wide_share(text))
    assert len(prompt) - 8 <= tokens <= len(prompt) + 16


def test_a_large_vocabulary_needs_fewer_tokens() -> None:
    assert S1.prompt_tokens(400) < DEMO.prompt_tokens(400) / 3


def test_a_longer_text_needs_more_until_all_segments_are_open() -> None:
    needs = [S1.request_bytes(n, "bf16", 200) for n in range(1, 1000, 7)]
    assert needs == sorted(needs)
    assert needs[0] < needs[20] < needs[-1]
    assert S1.request_bytes(1000, "bf16", 200) == S1.request_bytes(100_000, "bf16", 200)
    assert S1.request_bytes(1000, "bf16", 200, open_segments=1) < needs[-1]
    assert S1.request_bytes(1000, "bf16", 100) < S1.request_bytes(1000, "bf16", 200)


def test_the_bound_is_above_the_prediction() -> None:
    for characters in (10, 200, 1000):
        expected, longest = (
            S1.request_need(characters, "bf16", 200, reading=reading) for reading in READINGS
        )
        assert expected.total_bytes == S1.request_bytes(characters, "bf16", 200)
        assert expected.total_bytes <= longest.total_bytes
        if characters > 10:  # of a few words both end in the row's first bucket
            assert expected.cache_bytes < longest.cache_bytes


def test_text_that_takes_long_to_say_needs_more() -> None:
    han = S1.request_need(200, "bf16", 200, wide_share=1.0)
    latin = S1.request_need(200, "bf16", 200, wide_share=0.0)
    assert han.longest_row_bytes > 1.5 * latin.longest_row_bytes


def test_segments_are_no_longer_than_the_checkpoint_speaks() -> None:
    longest = DEMO.info.max_segment_characters
    assert DEMO.request_bytes(5000, "fp32", 5000) == DEMO.request_bytes(5000, "fp32", longest)


def test_the_context_bounds_a_row() -> None:
    need = DEMO.request_need(5000, "fp32", 200, reading="longest", wide_share=1.0)
    positions = need.longest_row_bytes // DEMO.model.kv_bytes_per_frame(4)
    assert positions == last_capacity(DEMO.model.max_seq_len)


def test_a_reference_lengthens_the_prompt() -> None:
    without = S1.request_need(20, "bf16", 200, reference_s=0.0)
    ten, sixty, four = (S1.request_need(20, "bf16", 200, reference_s=s) for s in (10, 60, 240))
    assert without.longest_row_bytes < ten.longest_row_bytes < sixty.longest_row_bytes
    assert 3 < four.longest_row_bytes / sixty.longest_row_bytes < 4, (
        "four recordings of a minute each"
    )
    most, more = (S1.request_need(20, "bf16", 200, reference_s=s) for s in (600, 6000))
    assert most == more, "the context holds no more"


def test_a_recording_is_encoded_beside_what_is_spoken() -> None:
    ten, sixty, more = (S1.encoding_need(s) for s in (10.0, 60.0, 600.0))
    assert ten.own_bytes < sixty.own_bytes == more.own_bytes
    # In pieces: a minute is far from 60 times a second.
    assert sixty.own_bytes < 300 * MIB + 4 * S1.codec.encoding_parameters
    spoken = S1.request_need(20, "bf16", 200)
    together = RequestNeed.together((spoken, sixty))
    assert together.total_bytes == spoken.total_bytes + sixty.own_bytes


def test_a_recording_is_counted_by_what_is_used_and_by_its_file() -> None:
    ten, twenty = (S1.encoding_need(s) for s in (10.0, 20.0))
    samples = 10 * S1.codec.sample_rate_hz
    # As decoded, and filled up; between two stages 512 channels of a column for 64 samples.
    grows = (8 + 4 * 512 // 64) * samples
    assert twenty.own_bytes - ten.own_bytes == grows
    file = S1.encoding_need(10.0, 50 * MIB)
    assert file.own_bytes == ten.own_bytes + 50 * MIB
    workspace = S1.codec.encode_workspace_bytes()
    stage = 4 * S1.codec.encoding_stage_parameters(is_native=False)
    assert ten.own_bytes == stage + workspace + grows, "a stage is read for it"
    native = replace(S1, decoder_bytes=2).encoding_need(10.0)
    assert native.own_bytes < ten.own_bytes - 128 * 1000**2, "of smaller stages"
    assert S1.encoding_need(10.0, 50 * MIB, "cuda:0").own_bytes == 2 * workspace


def test_a_voice_is_decoded_beside_what_is_spoken() -> None:
    one, ten = (S1.decoding_need(s) for s in (1.0, 10.0))
    samples = 9 * S1.codec.sample_rate_hz
    assert ten.own_bytes - one.own_bytes == 12 * samples, "in pieces: only the sound grows"
    least = S1.codec.stream_bytes + S1.codec.decode_workspace_bytes()
    assert 2 * least < one.own_bytes < 2 * least + 32 * MIB
    shipped = dataclasses.replace(DEMO, decoder_bytes=4).decoding_need(10.0)
    assert shipped.own_bytes > 42 * MIB, "measured: 39 in the worker, 3 in the server"
    spoken = S1.request_need(20, "bf16", 200)
    together = RequestNeed.together((spoken, ten))
    assert together.total_bytes == spoken.total_bytes + ten.own_bytes
    assert S1.decoding_need(10.0, "cuda:0").own_bytes == 2 * least


def test_a_gpu_keeps_blocks_of_its_workspace() -> None:
    on_cpu, on_gpu = (S1.request_need(2000, "bf16", 2000, device=d) for d in ("cpu", "cuda:0"))
    assert on_gpu.passing_bytes > on_cpu.passing_bytes
    assert on_gpu.cache_bytes == on_cpu.cache_bytes


def test_together_rows_add_up_and_the_workspace_is_shared() -> None:
    needs = (RequestNeed(100, 100, 7, 50), RequestNeed(120, 40, 5, 80))
    together = RequestNeed.together(needs)
    assert together == RequestNeed(220, 100, 12, 80)
    assert together.total_bytes == 220 + 12 + 80
    assert RequestNeed.together(()).total_bytes == 0


@pytest.mark.parametrize(
    ("limit_bytes", "cache_bytes"), [(0, 100), (99, 100), (150, 150), (220, 220), (10_000, 220)]
)
def test_rows_wait_past_the_limit_but_one_is_always_spoken(
    limit_bytes: int, cache_bytes: int
) -> None:
    assert RequestNeed(220, 100, 12, 80).within(limit_bytes) == cache_bytes + 12 + 80


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_worker_takes_what_was_predicted(kind: Quantization) -> None:
    case = Case(SHIPPED_VOICE_DIR, "fp32", kind, (40, 250), 200, "expected")
    for row in asyncio.run(measure(case, 1, 0)):
        assert abs(row.handshake_error) < 0.1, row
        assert abs(row.files_error) < 0.1, row


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_packed_keys_and_values_take_less(quantization: Quantization) -> None:
    shape = dataclasses.replace(S1, decoder_bytes=2)
    plain, packed = (
        shape.request_need(200, "bf16", 200, quantization=q) for q in ("none", quantization)
    )
    slow = S1.model.slow
    head_bytes = slow.head_dim * (8 + 6) / 8 + 8
    share = head_bytes / (slow.head_dim * 2 * 2)
    assert packed.cache_bytes == pytest.approx(share * plain.cache_bytes)
    on_gpu = shape.request_need(200, "bf16", 200, quantization=quantization, device="cuda:0")
    assert on_gpu.cache_bytes == plain.cache_bytes
    without_compiler = dataclasses.replace(S1, decoder_bytes=4)
    for device in ("cpu", "cuda:0"):
        as_before = without_compiler.request_need(
            200, "bf16", 200, quantization=quantization, device=device
        )
        assert as_before.cache_bytes == plain.cache_bytes
