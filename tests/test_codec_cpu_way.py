"""How the decoder is computed on a CPU: `native/codec.c` against torch in float32."""

import dataclasses
import os
import platform
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backend.codec import cpu_way
from backend.codec.cpu_way import NATIVE, read_decoder_
from backend.codec.native import NativePart
from backend.codec.native_parts import NativeDecoder, encoding_stages, native_part
from backend.codec.one_by_one import decode_codes
from backend.codec.reference import encode_reference
from backend.codec.way import LEAST_SNR_DB, PLAIN, snr_of
from backend.errors import BadCheckpoint
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.codec_layout import decoding_parts
from backend.model.dac import DAC
from backend.model.layers import stored_bytes
from backend.model.stored_codec import DECODING, ENCODING
from backend.model.stream import Stream, StreamSequential
from backend.native.codec import FILTER, CodecKernels, wide_kernels
from backend.native.compiler import CannotCompile, compile_library, find_compiler
from backend.settings import SHIPPED_VOICE_DIR
from tests.kernels_in_c import NARROWER
from tests.monitored import logged
from tests.tiny import TINY_CODEC, tiny_checkpoint

PROJECTED = {"post": dataclasses.replace(TINY_CODEC["post"], dim=48, n_head=3)}
"""A transformer narrower or wider than what it is given."""
WIDE = {
    "latent_dim": 72,
    "decoder_dim": 136,
    "post": dataclasses.replace(
        TINY_CODEC["post"], dim=72, n_head=2, head_dim=36, intermediate_size=104, n_layer=2
    ),
}
"""Widths that fill no vector and no block."""


FILTERED = {"decoder_dim": 256, "encoder_dim": 16}
"""Widths at which convolutions of seven taps become filters."""
TRANSFORMED = {"encoder_dim": 16, "encoder_transformer_layers": (0, 2), "encoder_window": 5}
"""As the official encoder has one at the end of its last block."""


def has_compiler() -> bool:
    try:
        find_compiler()
    except CannotCompile:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("native"))


def in_parts(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, codec_in_parts=True)


def some_codes(frames: int = 40, rows: int = 1) -> Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.randint(0, 64, (rows, 4, frames), generator=chance)


def use_kernels_(codec: DAC, names: tuple[str, ...], kernels: CodecKernels) -> None:
    for name in names:
        plain = codec.get_submodule(name)
        whole = stored_bytes(plain)
        if name in ENCODING:
            made = StreamSequential(*encoding_stages(kernels, codec.config, plain))
            codec.set_submodule(name, made)
        else:
            codec.set_submodule(name, native_part(kernels, plain, codec.config))
        assert stored_bytes(plain) < whole / 5, "it was taken apart"


def in_pieces(codec: DAC, codes: Tensor, *sizes: int) -> Tensor:
    stream = Stream(len(codes))
    return torch.cat(
        [codec.decode(part, stream) for part in torch.split(codes, list(sizes), -1)], -1
    )


@pytest.mark.parametrize(
    "changes", [{}, PROJECTED, WIDE, FILTERED], ids=["tiny", "projected", "wide", "filtered"]
)
def test_kernels_decode_as_torch_does(
    tmp_path: Path, library: Path, changes: dict[str, object]
) -> None:
    folder = tiny_checkpoint(tmp_path, codec=changes)
    plain, codec = load_checkpoint(folder).codec, load_checkpoint(folder).codec
    use_kernels_(codec, DECODING, CodecKernels(library))
    codes = some_codes(rows=3)
    wanted = plain.decode(codes)
    # Pieces shorter than what a convolution sees of the past, and longer than are computed at once.
    for sizes in ((40,), (1, 1, 2, 30, 6), (2, 4, 8, 16, 10)):
        assert snr_of(wanted, in_pieces(codec, codes, *sizes)) > LEAST_SNR_DB


@pytest.mark.parametrize(
    "changes",
    [{}, {"latent_dim": 35, "encoder_dim": 9}, TRANSFORMED],
    ids=["tiny", "odd", "with a transformer"],
)
def test_kernels_encode_as_torch_does(
    tmp_path: Path, library: Path, changes: dict[str, object]
) -> None:
    folder = tiny_checkpoint(tmp_path, codec=changes)
    plain, codec = load_checkpoint(folder).codec, load_checkpoint(folder).codec
    use_kernels_(codec, ENCODING, wide_kernels(library))
    frame = codec.config.frame_samples
    audio = torch.randn(2, 90 * frame - 7, generator=torch.Generator().manual_seed(1))
    audio[1] *= torch.linspace(0, 0.1, audio.shape[1])
    latents = [c.encoder(audio[:, None, : 64 * frame]) for c in (plain, codec)]
    assert snr_of(*latents) > 100
    assert torch.equal(plain.encode(audio), codec.encode(audio))
    stream = Stream(2)  # pieces of other lengths
    pieces = torch.split(audio, [frame, 3 * frame, 40 * frame, 46 * frame - 7], -1)
    found = torch.cat([codec.encode(piece, stream) for piece in pieces], -1)
    assert torch.equal(plain.encode(audio), found)


@pytest.mark.parametrize("name", ["this", "avx2", "no vectors to speak of"])
def test_filters_are_made_for_any_cpu(tmp_path: Path, name: str) -> None:
    flags = NARROWER.get(name, [])
    if flags and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("instructions of another CPU")
    compiler = [*find_compiler(), *flags]
    library = compile_library(tmp_path / "library", compiler)
    wide = compile_library(tmp_path / "library", compiler, is_wide=True)
    folder = tiny_checkpoint(tmp_path / "checkpoint", codec=FILTERED)
    plain, codec = load_checkpoint(folder).codec, load_checkpoint(folder).codec
    use_kernels_(codec, DECODING, CodecKernels(library))
    use_kernels_(codec, ENCODING, CodecKernels(wide, is_wide=True))
    for part in (codec.encoder, codec.decoder):
        steps = [s for m in part.modules() if isinstance(m, NativePart) for s in m._steps]
        assert any(step.kind == FILTER for step in steps)
    codes = some_codes()
    assert snr_of(plain.decode(codes), in_pieces(codec, codes, 1, 2, 30, 7)) > LEAST_SNR_DB
    chance = torch.Generator().manual_seed(2)
    audio = torch.randn(1, 20 * codec.config.frame_samples, generator=chance)
    assert torch.equal(plain.encode(audio), codec.encode(audio))


def test_signals_of_one_stream_do_not_touch_each_other(tmp_path: Path, library: Path) -> None:
    checkpoint = in_parts(tiny_checkpoint(tmp_path))
    codec, codes = checkpoint.codec, some_codes(12, rows=2)
    assert checkpoint.stored_codec is not None
    assert read_decoder_(checkpoint.stored_codec, library).kernels == "native"
    stream, heard = Stream(2), dict[int, list[Tensor]]()
    for row, begin, end in ((1, 0, 4), (0, 0, 8), (1, 4, 12), (0, 8, 12)):
        stream.select(torch.tensor([row]))
        heard.setdefault(row, []).append(codec.decode(codes[row : row + 1, :, begin:end], stream))
    for row, pieces in heard.items():
        alone = in_pieces(codec, codes[row : row + 1], 12)
        torch.testing.assert_close(torch.cat(pieces, -1), alone, rtol=0, atol=1e-6)


def test_any_number_of_threads_makes_the_same_sound(tmp_path: Path, library: Path) -> None:
    checkpoint = in_parts(tiny_checkpoint(tmp_path))
    assert checkpoint.stored_codec is not None
    read_decoder_(checkpoint.stored_codec, library)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(in_pieces(checkpoint.codec, some_codes(), 2, 4, 34))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_decodes_takes_half_the_memory_and_what_encodes_none(
    tmp_path: Path, library: Path
) -> None:
    folder = tiny_checkpoint(tmp_path, codec=WIDE)
    whole, checkpoint = load_checkpoint(folder).codec, in_parts(folder)
    stored = checkpoint.stored_codec
    assert stored is not None
    way = read_decoder_(stored, library)
    assert (way.precision, way.kernels) == ("bf16", "native")
    assert LEAST_SNR_DB <= way.snr_db < 80
    decoding = sum(stored_bytes(part) for part in decoding_parts(whole))
    now = sum(stored_bytes(part) for part in decoding_parts(checkpoint.codec))
    # Products are in blocks of 32 outputs, and the vectors beside them in float32.
    assert now < 0.75 * decoding
    assert stored_bytes(checkpoint.codec.encoder) == 0
    encoded = stored_bytes(checkpoint.codec)
    parts = (whole.encoder, whole.quantizer.downsample, whole.quantizer.pre_module)
    stages = [stored_bytes(stage) for stage in stored.encoding_stages()]
    assert sum(stages) >= sum(stored_bytes(part) for part in parts)
    assert stored_bytes(checkpoint.codec) == encoded


@pytest.mark.parametrize("has_kernels", [True, False])
def test_codes_of_a_recording_are_those_of_the_whole_codec(
    tmp_path: Path, library: Path, has_kernels: bool
) -> None:
    folder = tiny_checkpoint(tmp_path)
    checkpoint = in_parts(folder)
    stored = checkpoint.stored_codec
    assert stored is not None
    read_decoder_(stored, library if has_kernels else None)
    audio = torch.randn(4000, generator=torch.Generator().manual_seed(1)).numpy()
    wanted = encode_reference(load_checkpoint(folder).codec, audio)
    for _ in range(2):
        found = encode_reference(checkpoint.codec, audio, stages=stored.encoding_stages())
        assert torch.equal(found, wanted)
    assert type(checkpoint.codec.encoder).__name__ == "Encoder", "plain, and nowhere in memory"
    (folder / "codec.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"codec\.safetensors"):
        list(stored.encoding_stages())


def test_torch_encodes_where_kernels_cannot_be_compiled_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint(tmp_path / "checkpoint")
    checkpoint, library = in_parts(folder), compile_library(tmp_path / "library")
    stored = checkpoint.stored_codec
    assert stored is not None
    read_decoder_(stored, library)
    monkeypatch.setenv("CC", f"{sys.executable} -c exit('error:disk-full')")
    audio = torch.randn(4000, generator=torch.Generator().manual_seed(1)).numpy()
    wanted = encode_reference(load_checkpoint(folder).codec, audio)
    with logged("WARNING") as lines:
        for _ in range(2):
            found = encode_reference(checkpoint.codec, audio, stages=stored.encoding_stages())
            assert torch.equal(found, wanted)
    (told,) = lines
    assert "encoded slowly" in told and "disk-full" in told


def test_no_stage_is_in_memory_beside_another(tmp_path: Path, library: Path) -> None:
    layers = {"pre": dataclasses.replace(TINY_CODEC["pre"], n_layer=3)}
    checkpoint = in_parts(tiny_checkpoint(tmp_path, codec=layers))
    stored, living = checkpoint.stored_codec, list[weakref.ref[nn.Module]]()
    assert stored is not None
    read_decoder_(stored, library)

    def stages() -> Iterator[nn.Module]:
        made = stored.encoding_stages()
        while True:
            assert not [stage for stage in living if stage() is not None]
            stage = next(made, None)
            if stage is None:
                return
            living.append(weakref.ref(stage))
            held = [stage]
            del stage
            yield held.pop()

    encode_reference(checkpoint.codec, np.zeros(4000, np.float32), stages=stages())
    assert len(living) == 5


def test_the_plan_knows_the_largest_stage(tmp_path: Path, library: Path) -> None:
    checkpoint = in_parts(tiny_checkpoint(tmp_path, codec=TRANSFORMED | FILTERED))
    stored, config = checkpoint.stored_codec, checkpoint.codec_config
    assert stored is not None
    plain = max(stored_bytes(stage) for stage in stored.encoding_stages())
    assert plain == 4 * config.encoding_stage_parameters(is_native=False)
    read_decoder_(stored, library)
    native = max(stored_bytes(stage) for stage in stored.encoding_stages())
    assert native == pytest.approx(4 * config.encoding_stage_parameters(is_native=True), rel=0.05)


def test_where_rounding_can_be_heard_the_kernels_compute_in_float32(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint(tmp_path)
    checkpoint = in_parts(folder)
    assert checkpoint.stored_codec is not None
    monkeypatch.setattr(cpu_way, "LEAST_SNR_DB", 90.0)
    way = read_decoder_(checkpoint.stored_codec, library)
    assert (way.precision, way.kernels) == ("fp32", "native")
    wanted = load_checkpoint(folder).codec.decode(some_codes())
    assert snr_of(wanted, checkpoint.codec.decode(some_codes())) > 90


@pytest.mark.parametrize(
    "why", ["no compiler", "can be heard", "a full disk", "slower", "unknown shape"]
)
def test_without_kernels_that_are_better_torch_decodes(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    folder = tiny_checkpoint(tmp_path, codec={"latent_dim": 35} if why == "unknown shape" else {})
    checkpoint = in_parts(folder)
    stored = checkpoint.stored_codec
    assert stored is not None
    if why in ("can be heard", "a full disk"):
        monkeypatch.setattr(cpu_way, "LEAST_SNR_DB", 1000.0)
    if why == "a full disk":  # the kernels in float32 are compiled only now
        monkeypatch.setenv("CC", "false")
    if why == "slower":
        clock = iter(range(1000))
        made = NativeDecoder.forward

        def slow(part: NativeDecoder, x: Tensor, stream: Stream | None = None) -> Tensor:
            for _ in range(10):
                next(clock)
            return made(part, x, stream)

        monkeypatch.setattr(NativeDecoder, "forward", slow)
        monkeypatch.setattr("backend.codec.cpu_way.time.thread_time", lambda: float(next(clock)))
    assert read_decoder_(stored, None if why == "no compiler" else library) == PLAIN
    codes = some_codes(12)
    assert torch.equal(checkpoint.codec.decode(codes), load_checkpoint(folder).codec.decode(codes))


def test_a_long_voice_is_decoded_in_bounded_memory(library: Path) -> None:
    checkpoint = in_parts(SHIPPED_VOICE_DIR)
    assert checkpoint.stored_codec is not None
    read_decoder_(checkpoint.stored_codec, library)
    codec, codes = checkpoint.codec, some_codes(100).repeat(1, 2, 1)
    heard = torch.cat(list(decode_codes(codec, codes[0])))
    torch.testing.assert_close(heard, codec.decode(codes)[0], rtol=0, atol=1e-6)
    taken = 0
    for part in codec.modules():
        if isinstance(part, NativePart):
            taken += sum(room.nbytes for room in part._workspace.rooms.values())
    assert taken <= codec.config.native_workspace_bytes(threads=os.cpu_count() or 1) < 2 * taken


def test_it_says_how_it_computes() -> None:
    assert str(dataclasses.replace(NATIVE[0], snr_db=46.1)) == (
        "bf16 (native, rounding 46 dB below the sound)"
    )
