"""The codec on a CUDA device against the CPU's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.codec.one_by_one import decode_codes
from backend.codec.reference import encode_reference
from backend.codec.stage import CodecStage
from backend.model.dac import DAC
from backend.worker.loaded import stage_of
from tests.gpu.forced import GPU, said, voice

pytestmark = GPU


def spoken(codec: DAC, frames: Tensor) -> Tensor:
    """PCM of `frames` [T, N], piece by piece."""
    return together(stage_of(codec, 1), [frames])[0]


def together(stage: CodecStage, sequences: list[Tensor]) -> list[Tensor]:
    """PCM of each sequence's frames [T, N], which are made side by side."""
    heard: list[list[Tensor]] = [[] for _ in sequences]
    for step in range(max(map(len, sequences))):
        for key, frames in enumerate(sequences):
            if step < len(frames):
                stage.push(key, frames[step])
            if step == len(frames) - 1:
                stage.end(key)
        _collect(stage, heard, wait=False)
    while not stage.is_idle:
        _collect(stage, heard, wait=True)
    return [torch.cat(pieces) for pieces in heard]


def _collect(stage: CodecStage, into: list[list[Tensor]], wait: bool) -> None:
    for told in stage.heard(wait):
        assert told.error is None
        if told.samples is not None:
            assert told.samples.device.type == "cpu"
            into[int(str(told.key))].append(told.samples.clone())


def distance_db(wanted: Tensor, found: Tensor) -> float:
    """How far the difference lies below the sound."""
    return float(10 * torch.log10(wanted.square().mean() / (wanted - found).square().mean()))


@pytest.mark.parametrize("rounds", [False, True])
def test_what_is_heard_is_that_of_the_cpu(rounds: bool) -> None:
    codes = said()[2]
    wanted = spoken(voice("cpu", "fp32").codec, codes)
    # TF32 rounds the factors of convolutions to 10 bits; torch allows it unless told otherwise.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=rounds):
        below_db = distance_db(wanted, spoken(voice("cuda", "bf16").codec, codes))
    print(f"TF32 {rounds}: the difference is {below_db:.1f} dB below the sound")
    assert below_db > (40 if rounds else 60)


@torch.inference_mode()
def test_piece_by_piece_is_the_whole() -> None:
    codec, codes = voice("cuda", "fp32").codec, said()[2]
    whole = codec.decode(codes.t()[None].to("cuda"))[0].float().cpu()
    assert distance_db(whole, spoken(codec, codes)) > 40


def test_codes_that_are_kept_sound_as_on_the_cpu() -> None:
    codes = said()[2].t()
    wanted = torch.cat(list(decode_codes(voice("cpu", "fp32").codec, codes)))
    pieces = list(decode_codes(voice("cuda", "bf16").codec, codes))
    assert all(piece.device.type == "cpu" for piece in pieces)
    assert distance_db(wanted, torch.cat(pieces)) > 40


def test_a_recording_is_encoded_as_on_the_cpu() -> None:
    cpu = voice("cpu", "fp32")
    recording = spoken(cpu.codec, said()[2]).numpy().astype(np.float32)
    wanted = encode_reference(cpu.codec, recording)
    found = encode_reference(voice("cuda", "fp32").codec, recording)
    assert found.device.type == "cpu"
    same = (wanted == found).float().mean(1)
    print("share of the codes that are the same, book by book:", same.tolist())
    # Each book codes what the ones before left over: a code that was close changes all later ones.
    assert same[0] >= 0.8
