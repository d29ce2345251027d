"""In which type and with which kernels a codec decodes: what is let in, and what is left."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from backend.codec import way as way_module
from backend.codec.slots import SlotDecoder
from backend.codec.stage import CodecStage
from backend.codec.way import LEAST_SNR_DB, PLAIN, Way, take_fastest_, ways
from backend.model.codec_layout import Kernels, lay_out_decoder_
from backend.model.dac import DAC
from tests.engines import tiny

FP16 = Way("fp16", "channels last")
BF16 = Way("bf16", "channels last")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def codec() -> DAC:
    return copy.deepcopy(tiny().codec)


def some_codes(rows: int = 2, frames: int = 40) -> Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.randint(0, 64, (rows, 4, frames), generator=chance)


def snr_db(wanted: Tensor, found: Tensor) -> float:
    noise = (wanted - found.float()).square().mean()
    return float(10 * torch.log10(wanted.square().mean() / noise))


def test_half_precision_is_let_in_where_it_cannot_be_heard() -> None:
    plain, changed = codec(), codec()
    taken = take_fastest_(changed, [FP16])
    assert (taken.precision, taken.kernels) == ("fp16", "channels last")
    assert LEAST_SNR_DB <= taken.snr_db < 80
    assert next(changed.decoder.parameters()).dtype == torch.float16
    wanted, found = plain.decode(some_codes()), changed.decode(some_codes())
    assert found.dtype == torch.float16
    assert abs(snr_db(wanted, found) - taken.snr_db) < 3
    assert "fp16 (channels last, rounding 5" in str(taken)


def test_codes_of_a_recording_are_the_same_whatever_decodes_them() -> None:
    plain, changed = codec(), codec()
    take_fastest_(changed, [FP16])
    audio = torch.randn(1, 4000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(plain.encode(audio), changed.encode(audio))


def test_what_can_be_heard_is_refused_and_nothing_is_left_of_it() -> None:
    plain, changed = codec(), codec()
    assert take_fastest_(changed, [BF16]) == PLAIN
    assert torch.equal(plain.decode(some_codes()), changed.decode(some_codes()))
    assert take_fastest_(changed, [BF16, FP16]).precision == "fp16"


def test_what_overflows_is_refused() -> None:
    changed = codec()
    first = changed.decoder.model[0]
    for weight in first.parameters():
        weight.mul_(1e6)
    second = changed.decoder.model[1].block[1].conv  # type: ignore[union-attr, index]
    assert isinstance(second, nn.ConvTranspose1d)
    second.weight.mul_(1e-6)
    wanted = changed.decode(some_codes())
    assert torch.isfinite(wanted).all()
    assert take_fastest_(changed, [FP16]) == PLAIN
    assert torch.equal(changed.decode(some_codes()), wanted)


def test_kernels_that_do_not_compile_are_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out = lay_out_decoder_

    def broken(codec: DAC, dtype: torch.dtype, kernels: Kernels) -> None:
        if kernels == "fused":
            raise RuntimeError("no compiler here")
        lay_out(codec, dtype, "channels last")

    monkeypatch.setattr(way_module, "lay_out_decoder_", broken)
    taken = take_fastest_(codec(), [Way("fp16", "fused"), FP16])
    assert (taken.precision, taken.kernels) == ("fp16", "channels last")


def test_what_was_taken_before_is_taken_untried() -> None:
    tried, known = codec(), codec()
    taken = take_fastest_(tried, [FP16])
    assert take_fastest_(known, [FP16], 51.5) == replace(taken, snr_db=51.5)
    assert torch.equal(tried.decode(some_codes()), known.decode(some_codes()))


def test_what_was_taken_before_and_fails_now_leaves_the_others_to_be_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lay_out = lay_out_decoder_

    def broken(codec: DAC, dtype: torch.dtype, kernels: Kernels) -> None:
        if kernels == "fused":
            raise RuntimeError("no compiler here")
        lay_out(codec, dtype, kernels)

    monkeypatch.setattr(way_module, "lay_out_decoder_", broken)
    changed = codec()
    assert take_fastest_(changed, [Way("fp16", "fused"), BF16], 51.5) == PLAIN
    assert torch.equal(changed.decode(some_codes()), codec().decode(some_codes()))


def test_a_cpu_keeps_what_was_loaded() -> None:
    changed = codec()
    assert ways(torch.device("cpu")) == ()
    assert take_fastest_(changed, ()) == PLAIN
    assert str(PLAIN) == "fp32 (plain)"
    assert torch.equal(changed.decode(some_codes()), tiny().codec.decode(some_codes()))


def test_slots_decode_in_half_precision_as_the_whole_does() -> None:
    changed = codec()
    taken = take_fastest_(changed, [FP16])
    stage, codes = CodecStage(SlotDecoder(changed, 2)), some_codes()
    heard: dict[int, list[Tensor]] = {0: [], 1: []}
    for step in range(codes.shape[-1]):
        for row in range(2):
            stage.push(row, codes[row, :, step])
        for told in stage.heard():
            assert told.samples is not None
            assert told.samples.dtype == torch.float32
            heard[int(str(told.key))].append(told.samples)
    for row in range(2):
        stage.end(row)
    for told in stage.heard():
        if told.samples is not None:
            heard[int(str(told.key))].append(told.samples)
    found = torch.stack([torch.cat(heard[row]) for row in range(2)])
    assert snr_db(tiny().codec.decode(codes), found) > taken.snr_db - 3
