"""The codec on a CUDA device against the CPU's."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.codec.one_by_one import decode_codes
from backend.codec.reference import encode_reference
from backend.codec.stage import CodecStage
from backend.codec.way import PLAIN, has_triton, take_fastest_, ways
from backend.model.codec_layout import lay_out_decoder_
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


def test_the_fastest_way_sounds_alike_whoever_shares_its_calls() -> None:
    codec, codes = copy.deepcopy(voice("cuda", "fp32").codec), said()[2]
    way = take_fastest_(codec, ways(torch.device("cuda")))
    print("the codec computes in", way)
    assert way.precision == "fp16"
    assert way.kernels == ("fused" if has_triton() else "channels last")
    sequences = [codes, codes[:7], *(said()[row % 3] for row in range(6))]
    stage = stage_of(codec, 4)  # fewer slots than there are sequences
    for wanted, found in zip(sequences, together(stage, sequences), strict=True):
        below_db = distance_db(spoken(voice("cpu", "fp32").codec, wanted), found)
        assert below_db > 40


def test_each_way_sounds_alike() -> None:
    codes = said()[2]
    wanted = spoken(voice("cpu", "fp32").codec, codes)
    for way in (PLAIN, *ways(torch.device("cuda"))):
        codec = copy.deepcopy(voice("cuda", "fp32").codec)
        lay_out_decoder_(codec, way.dtype, way.kernels)
        below_db = distance_db(wanted, spoken(codec, codes))
        print(f"{way}: the difference is {below_db:.1f} dB below the sound")
        assert below_db > (25 if way.precision == "bf16" else 40)


def test_codes_that_come_from_the_device_sound_alike() -> None:
    codes = said()[2]
    stage = stage_of(voice("cuda", "fp32").codec, 2)
    on_cpu, on_gpu = (together(stage, [each])[0] for each in (codes, codes.to("cuda")))
    assert distance_db(on_cpu, on_gpu) > 60


def test_voices_are_decoded_beside_the_speech() -> None:
    """Another thread's calls while graphs are made ready and replayed."""
    codec, codes = voice("cuda", "fp32").codec, said()[2]
    wanted = torch.cat(list(decode_codes(codec, codes.t())))
    found: list[Tensor] = []

    def decode() -> None:
        for _ in range(20):
            found.append(torch.cat(list(decode_codes(codec, codes.t()))))

    thread = threading.Thread(target=decode)
    thread.start()
    spoken_beside = spoken(codec, codes)
    thread.join()
    assert len(found) == 20
    assert all(distance_db(wanted, each) > 60 for each in found)
    assert distance_db(wanted, spoken_beside) > 60


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
