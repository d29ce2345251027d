"""Frames to PCM, row by row and in slots: what is heard is what the whole sounds like."""

import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from backend.codec.one_by_one import OneByOne, decode_codes
from backend.codec.pieces import FIRST_FRAMES, Piece, Pieces, piece_sizes
from backend.codec.slots import SlotDecoder
from backend.codec.stage import CodecStage, Flight, Heard, Key, PieceDecoder
from backend.errors import EngineFailed
from backend.model.config import DECODE_FRAMES, STAGE_FRAMES_TOGETHER
from backend.model.dac import DAC
from backend.model.stream import Stream
from tests.engines import tiny

SLOTS = 5
CPU_SIZES = (2, 4, 8, 16, DECODE_FRAMES)
DECODERS: dict[str, Callable[[DAC], PieceDecoder]] = {
    "one by one": OneByOne,
    "slots": lambda codec: SlotDecoder(codec, SLOTS),
}


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> PieceDecoder:
    return DECODERS[request.param](tiny().codec)


def codes_of(key: int, frames: int) -> Tensor:
    """Codes [N, frames] of a sequence."""
    return torch.randint(0, 64, (4, frames), generator=torch.Generator().manual_seed(key))


def whole(codes: Tensor) -> Tensor:
    with torch.inference_mode():
        return tiny().codec.decode(codes[None])[0]


def sound(heard: Sequence[Heard], key: Key) -> Tensor:
    """What was heard of `key`, which was well and is over."""
    mine = [each for each in heard if each.key == key]
    assert all(each.error is None for each in mine)
    assert [each.is_over for each in mine] == [*[False] * (len(mine) - 1), True]
    return torch.cat([torch.zeros(0), *(e.samples for e in mine if e.samples is not None)])


@pytest.mark.parametrize("frames", [0, 1, FIRST_FRAMES, 37, 150])
def test_pcm_piece_by_piece_is_that_of_the_whole(decoder: PieceDecoder, frames: int) -> None:
    stage, codes = CodecStage(decoder), codes_of(frames, frames)
    heard: list[Heard] = []
    for frame in codes.t():
        stage.push("it", frame)
        heard += stage.heard()
    stage.end("it")
    heard += stage.heard()
    assert stage.is_idle
    assert not list(stage.heard(wait=True))
    assert torch.allclose(sound(heard, "it"), whole(codes) if frames else torch.zeros(0), atol=1e-5)
    most = decoder.sizes[-1] * decoder.frame_samples
    assert all(len(each.samples) <= most for each in heard if each.samples is not None)


def test_something_is_heard_after_a_few_frames(decoder: PieceDecoder) -> None:
    stage, frame = CodecStage(decoder), torch.zeros(4, dtype=torch.int64)

    def is_heard() -> bool:
        stage.push("it", frame)
        return bool(list(stage.heard()))

    assert [is_heard() for _ in range(6)] == [False, True, *[False] * 3, True]


@pytest.mark.parametrize("seed", range(6))
def test_whoever_joins_and_leaves_each_sounds_as_if_alone(decoder: PieceDecoder, seed: int) -> None:
    """Sequences of chance lengths begin, end and are given up at chance times, 12 on 5 slots."""
    chance, stage = random.Random(seed), CodecStage(decoder)
    codes = {key: codes_of(key, chance.randrange(1, 80)) for key in range(12)}
    given_up = set(chance.sample(range(12), 3))
    left = {key: list(grid.t()) for key, grid in codes.items()}
    heard: list[Heard] = []
    while left:
        for key in chance.sample(sorted(left), min(len(left), chance.randrange(1, 7))):
            if key in given_up and chance.random() < 0.1:
                del left[key]
                stage.forget(key)
                continue
            for _ in range(chance.choice((1, 1, 1, 5, 30))):
                if left[key]:
                    stage.push(key, left[key].pop(0))
            if not left[key]:
                del left[key]
                stage.end(key)
        if chance.random() < 0.7:
            heard += stage.heard()
    while not stage.is_idle:
        heard += stage.heard(wait=True)
    for key in codes.keys() - given_up:
        assert torch.allclose(sound(heard, key), whole(codes[key]), atol=1e-5), key


def test_past_4096_positions_beside_a_newcomer() -> None:
    """Where the package's tables end, and a slot that somebody used before."""
    stage = CodecStage(SlotDecoder(tiny().codec, 2))
    codes = {"long": codes_of(1, 4200), "before": codes_of(2, 9), "late": codes_of(3, 50)}
    heard: list[Heard] = []

    def say(key: str, begin: int, end: int) -> None:
        for frame in codes[key][:, begin:end].t():
            stage.push(key, frame)
        if end == codes[key].shape[1]:
            stage.end(key)
        heard.extend(stage.heard())

    say("before", 0, 9)
    for begin in range(0, 4200, 30):
        say("long", begin, begin + 30)
        if begin == 4110:
            say("late", 0, 50)
    for key, grid in codes.items():
        assert torch.allclose(sound(heard, key), whole(grid), atol=1e-4), key


class Watched(SlotDecoder):
    """Remembers what was decoded together, and flies until it is told to land."""

    def __init__(self, slots: int) -> None:
        super().__init__(tiny().codec, slots)
        self.calls: list[tuple[int, list[Key]]] = []
        self.may_land = True

    def begin(self, keys: Sequence[Key], pieces: Sequence[Piece]) -> Flight:
        self.calls.append((len(pieces[0].frames), list(keys)))
        return _Held(self, super().begin(keys, pieces))


class _Held:
    def __init__(self, decoder: Watched, flight: Flight) -> None:
        self._decoder, self._flight = decoder, flight

    def is_done(self) -> bool:
        return self._decoder.may_land

    def samples(self) -> Tensor:
        return self._flight.samples()


def push(stage: CodecStage, key: Key, frames: int) -> None:
    for frame in codes_of(0, frames).t():
        stage.push(key, frame)


def test_pieces_of_one_size_are_decoded_together_and_the_smallest_first() -> None:
    decoder = Watched(8)
    stage = CodecStage(decoder)
    for key in range(3):
        push(stage, key, 16)
    for key in range(3, 7):
        push(stage, key, 2)
    assert len(list(stage.heard())) == 7
    assert decoder.calls == [(2, [3, 4, 5, 6]), (16, [0, 1, 2])]


def test_what_comes_while_the_device_is_at_work_is_decoded_together_afterwards() -> None:
    decoder = Watched(8)
    stage = CodecStage(decoder)
    decoder.may_land = False
    for key in range(2):
        push(stage, key, 2)
        assert not list(stage.heard())
    for _ in range(9):
        for key in range(2, 6):
            push(stage, key, 1)
        assert not list(stage.heard()), "it would hold its caller"
    assert decoder.calls == [(2, [0]), (2, [1])]
    assert [heard.key for heard in stage.heard(wait=True)] == [0]
    decoder.may_land = True
    assert {heard.key for heard in stage.heard()} == {1, 2, 3, 4, 5}
    assert decoder.calls[2:] == [(8, [2, 3, 4, 5])]


def test_who_was_given_up_in_flight_is_not_heard() -> None:
    decoder = Watched(8)
    stage = CodecStage(decoder)
    decoder.may_land = False
    for key in range(2):
        push(stage, key, 2)
    assert not list(stage.heard())
    stage.forget(0)
    decoder.may_land = True
    assert [heard.key for heard in stage.heard()] == [1]
    assert stage.is_idle


def test_a_call_has_no_more_frames_than_fit_and_few_rows_of_nobody() -> None:
    decoder = Watched(64)
    stage = CodecStage(decoder)
    for key in range(21):
        push(stage, key, 16)
    assert len(list(stage.heard())) == 21
    rows = STAGE_FRAMES_TOGETHER // 16
    assert [len(keys) for _, keys in decoder.calls] == [rows, rows, 4, 1]


def test_who_finds_no_slot_waits_for_one() -> None:
    decoder = Watched(1)
    stage = CodecStage(decoder)
    push(stage, "first", 2)
    push(stage, "second", 2)
    assert [heard.key for heard in stage.heard()] == ["first"]
    assert not list(stage.heard())
    stage.end("first")
    assert [(heard.key, heard.is_over) for heard in stage.heard()] == [("first", True)]
    assert [heard.key for heard in stage.heard()] == ["second"]


def test_a_row_that_is_no_number_fails_alone(
    decoder: PieceDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = DAC.decode

    def broken(codec: DAC, codes: Tensor, stream: Stream | None = None) -> Tensor:
        return decode(codec, codes, stream).where(codes[:, :1, :1].ne(63).flatten(1), torch.nan)

    stage = CodecStage(decoder)
    with monkeypatch.context() as patch:
        patch.setattr(DAC, "decode", broken)
        for key in range(3):
            for frame in range(2):
                stage.push(key, torch.full((4,), 63 if key == 1 else frame))
        heard = list(stage.heard())
    (failed,) = (each for each in heard if each.error is not None)
    assert (failed.key, failed.is_over, type(failed.error)) == (1, True, EngineFailed)
    for key in (0, 2):
        stage.end(key)
    heard += stage.heard()
    wanted = whole(torch.tensor([[0, 1]]).expand(4, 2))
    for key in (0, 2):
        assert torch.allclose(sound(heard, key), wanted, atol=1e-5)
    # and whoever gets what it had is not harmed
    for frame in range(2):
        stage.push("next", torch.full((4,), frame))
    stage.end("next")
    assert torch.allclose(sound(list(stage.heard()), "next"), wanted, atol=1e-5)


def test_a_decoder_that_raises_fails_who_was_in_it(
    decoder: PieceDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = CodecStage(decoder)
    with monkeypatch.context() as patch:
        patch.setattr(DAC, "decode", lambda *_: (_ for _ in ()).throw(MemoryError("no")))
        push(stage, "it", 2)
        (heard,) = stage.heard()
    assert isinstance(heard.error, MemoryError)
    assert heard.is_over
    assert stage.is_idle
    push(stage, "it", 2)
    stage.end("it")
    assert torch.allclose(sound(list(stage.heard()), "it"), whole(codes_of(0, 2)), atol=1e-5)


def test_too_little_memory_for_many_rows_means_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Watched(8)
    call = SlotDecoder._call

    def small(self: SlotDecoder, rows: int, frames: int) -> object:
        if rows > 4:
            raise torch.OutOfMemoryError("no")
        if rows > 2:
            try:
                raise torch.OutOfMemoryError("no")
            finally:
                raise RuntimeError("the capture was given up")
        return call(self, rows, frames)

    monkeypatch.setattr(SlotDecoder, "_call", small)
    while decoder.prepare():
        pass
    made = {(rows, frames) for rows in (1, 2) for frames in (2, 4, 8, 16)}
    assert decoder._calls.keys() == made
    stage = CodecStage(decoder)
    for key in range(5):
        push(stage, key, 2)
    assert len(list(stage.heard())) == 5
    assert [len(keys) for _, keys in decoder.calls] == [2, 2, 1]


def test_frames_that_come_late_make_larger_pieces() -> None:
    pieces = Pieces(piece_sizes(16))
    assert pieces.sizes == (2, 4, 8, 16)
    taken = []
    for frames in (1, 1, 3, 1, 20):
        pieces.waiting += [torch.zeros(4)] * frames
        while pieces.due:
            taken.append(pieces.take().wanted)
    assert taken == [2, 4, 16]
    pieces.is_ended = True
    piece = pieces.take()
    assert (piece.wanted, len(piece.frames)) == (4, 4)
    assert pieces.due == 0


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Frames that the codec decoded together."""
    seen: set[int] = set()
    decode = DAC.decode

    def watched(codec: DAC, codes: Tensor, stream: Stream | None = None) -> Tensor:
        seen.add(codes.shape[-1])
        return decode(codec, codes, stream)

    with monkeypatch.context() as patch:
        patch.setattr(DAC, "decode", watched)
        yield seen


@pytest.mark.parametrize("frames", [1, 3, DECODE_FRAMES, DECODE_FRAMES + 1, 150])
def test_codes_that_are_kept_sound_as_they_did(frames: int, sizes: set[int]) -> None:
    codes, asked = codes_of(frames, frames), list[int]()
    pieces = list(decode_codes(tiny().codec, codes, lambda: asked.append(1)))
    assert sizes <= set(CPU_SIZES), "oneDNN compiles code for every other size"
    assert torch.allclose(torch.cat(pieces), whole(codes), atol=1e-5)
    assert len(asked) == len(pieces) == -(-frames // DECODE_FRAMES)


def test_a_cpu_decodes_few_sizes(sizes: set[int]) -> None:
    stage = CodecStage(OneByOne(tiny().codec))
    for frames in (1, 5, 23, 60):
        push(stage, frames, frames)
        stage.end(frames)
    while not stage.is_idle:
        list(stage.heard())
    assert sizes <= set(CPU_SIZES)


def test_what_is_raised_before_a_piece_ends_the_decoding() -> None:
    codes = torch.zeros(4, 3 * DECODE_FRAMES, dtype=torch.int64)
    allowed = [1]

    def check() -> None:
        allowed.pop()

    pieces = decode_codes(tiny().codec, codes, check)
    assert len(next(pieces)) == DECODE_FRAMES * tiny().codec.config.frame_samples
    with pytest.raises(IndexError):
        next(pieces)
