"""Frames of many sequences to PCM: the stage behind the one that makes them."""

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from backend.codec.pieces import Piece, Pieces
from backend.errors import EngineFailed

Key = Hashable
"""What a sequence is known by."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a sequence's frames: samples, an error, or that there are no more."""

    key: Key
    samples: Tensor | None = None
    """float32 on the CPU."""
    error: Exception | None = None
    is_over: bool = False
    """Nothing more is told of it."""


class Flight(Protocol):
    """Pieces that are being decoded."""

    def is_done(self) -> bool:
        """Whether the device is through with them."""

    def samples(self) -> Tensor:
        """float32 [pieces, samples] on the CPU; waits for the device."""


class PieceDecoder(Protocol):
    """Decodes the next pieces of sequences, and keeps what goes on from piece to piece."""

    sizes: tuple[int, ...]
    """Frames of the pieces that it takes."""
    frame_samples: int
    most_flights: int
    """Flights that may be begun before the first of them has landed."""

    def prepare(self) -> bool:
        """Make something ready that will be wanted; False where nothing is left to prepare."""

    def fitting(self, frames: int, keys: Sequence[Key]) -> Sequence[Key]:
        """Those of `keys` of which a piece of `frames` can be decoded together now."""

    def begin(self, keys: Sequence[Key], pieces: Sequence[Piece]) -> Flight:
        """Decode a piece of each, all of one size."""

    def forget(self, key: Key) -> None:
        """Keep no more of `key`; a flight that has it may still land."""


class CodecStage:
    """Takes frames as they are made and decodes together what is due; it never holds its caller.

    Unless the decoder itself computes on the CPU: then `heard` does it, one flight at a time.
    """

    def __init__(self, decoder: PieceDecoder) -> None:
        self._decoder = decoder
        self._sequences: dict[Key, Pieces] = {}
        self._due: dict[Key, None] = {}
        """Of which a piece can be begun, in the order in which they came to it."""
        self._ended: dict[Key, None] = {}
        """Of which no frame is to come, but something to tell."""
        self._flights: deque[tuple[Flight, Sequence[Key], Sequence[Piece]]] = deque()
        self._flying: Counter[Key] = Counter()

    @property
    def decoder(self) -> PieceDecoder:
        """What it decodes with, for who measures that alone while nothing else is at work."""
        return self._decoder

    @property
    def is_idle(self) -> bool:
        """There is nothing to tell unless more is pushed."""
        return not (self._flights or self._due or self._ended)

    def prepare(self) -> bool:
        """Make something ready while there is nothing to decode; False when all is."""
        return self._decoder.prepare()

    def push(self, key: Key, frame: Tensor) -> None:
        """Take the codes [N] of the next frame of `key`, on whatever device."""
        pieces = self._pieces(key)
        pieces.waiting.append(frame)
        if pieces.due:
            self._due[key] = None

    def end(self, key: Key) -> None:
        """No more frames of `key` will come; the last that is heard of it says so."""
        pieces = self._pieces(key)
        pieces.is_ended = True
        self._ended[key] = None
        if pieces.due:
            self._due[key] = None

    def forget(self, key: Key) -> None:
        """Nothing more of `key` is wanted."""
        self._sequences.pop(key, None)
        self._due.pop(key, None)
        self._ended.pop(key, None)
        self._decoder.forget(key)

    def heard(self, wait: bool = False) -> Iterator[Heard]:
        """Begin what is due and tell what was decoded; with `wait`, wait for one flight to land."""
        while True:
            yield from self._begin()
            yield from self._finish()
            if not self._flights or not (wait or self._flights[0][0].is_done()):
                return
            wait = False
            yield from self._land(*self._flights.popleft())

    def _pieces(self, key: Key) -> Pieces:
        if key not in self._sequences:
            self._sequences[key] = Pieces(self._decoder.sizes)
        return self._sequences[key]

    def _begin(self) -> Iterator[Heard]:
        while len(self._flights) < self._decoder.most_flights and (keys := self._next()):
            pieces = [self._take(key) for key in keys]
            try:
                flight = self._decoder.begin(keys, pieces)
            except Exception as error:  # noqa: BLE001 - the boundary of these sequences
                yield from [self._failed(key, error) for key in keys]
            else:
                self._flights.append((flight, keys, pieces))
                self._flying.update(keys)

    def _next(self) -> Sequence[Key]:
        """Whose pieces to begin together; the smallest first, for they may be somebody's first."""
        by_size: dict[int, list[Key]] = {}
        for key in self._due:
            by_size.setdefault(self._sequences[key].due, []).append(key)
        for frames in sorted(by_size):
            if keys := self._decoder.fitting(frames, by_size[frames]):
                return keys
        return ()

    def _take(self, key: Key) -> Piece:
        pieces = self._sequences[key]
        piece = pieces.take()
        if not pieces.due:
            del self._due[key]
        return piece

    def _land(
        self, flight: Flight, keys: Sequence[Key], pieces: Sequence[Piece]
    ) -> Iterator[Heard]:
        self._flying.subtract(keys)
        samples = flight.samples()
        are_sound = torch.isfinite(samples).all(dim=1).tolist()
        for key, piece, row, is_sound in zip(keys, pieces, samples, are_sound, strict=True):
            if not self._flying[key]:
                del self._flying[key]
            if key not in self._sequences:
                continue  # nobody wants it any more
            if is_sound:
                yield Heard(key, row[: piece.wanted * self._decoder.frame_samples])
            else:
                yield self._failed(key, EngineFailed("The codec made no sound of these frames."))

    def _finish(self) -> Iterator[Heard]:
        over = [k for k in self._ended if k not in self._due and not self._flying[k]]
        for key in over:
            self.forget(key)
            yield Heard(key, is_over=True)

    def _failed(self, key: Key, error: Exception) -> Heard:
        self.forget(key)
        return Heard(key, error=error, is_over=True)
