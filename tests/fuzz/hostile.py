"""What the fuzzers draw: files with a few bytes wrong, and values that no field expects."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

_BORDERS = (0, 1, 2, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""What is written in the place of a length or a count."""
_HEADERS_BYTES = (64, 200, 1000)
"""Where most of what a format says of itself is, and most changes are made."""
_CHANGES = 6
_LONGEST_PIECE_BYTES = 2_000
DEPTH = 20_000
"""Of what is nested: no parser should follow it down."""


def _flip(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    data[at] ^= 1 << draw(st.integers(0, 7))


def _replace(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    data[at] = draw(st.integers(0, 255))


def _lie(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    """A length that is another."""
    width, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
    value = draw(st.sampled_from(_BORDERS)) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, order)


def _cut_out(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    del data[at : at + draw(st.sampled_from((1, 2, 4, 16, 100, 1000)))]


def _cut_off(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    del data[at:]


def _insert(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    data[at:at] = draw(st.binary(min_size=1, max_size=64))


def _splice(draw: Draw, data: bytearray, at: int, seeds: Sequence[bytes]) -> None:
    """A piece of another file."""
    other = draw(st.sampled_from(seeds))
    begin = draw(st.integers(0, len(other)))
    data[at:at] = other[begin : begin + draw(st.integers(1, _LONGEST_PIECE_BYTES))]


_MUTATIONS = (_flip, _replace, _lie, _cut_out, _cut_off, _insert, _splice)


@st.composite
def mutated(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """One of `seeds` with up to six changes, most of them where its header is."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for mutate in draw(st.lists(st.sampled_from(_MUTATIONS), min_size=1, max_size=_CHANGES)):
        reach = min(len(data), draw(st.sampled_from((*_HEADERS_BYTES, len(data)))))
        if reach:
            mutate(draw, data, draw(st.integers(0, reach - 1)), seeds)
    return bytes(data)


_numbers = st.one_of(
    st.integers(),
    st.sampled_from((2**31, 2**63, 2**64 - 1, -(2**63), 10**400)),
    st.floats(),
)
_texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20),  # lone surrogates and NUL as well
    st.sampled_from(("Hi.", "\0", "\ud83d", "=1+1", "\u202e", "../..", "%00", "x" * 3_000)),
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)
values = st.one_of(
    st.recursive(
        _scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(_texts, inner, max_size=3)
        ),
        max_leaves=6,
    ),
    st.builds(lambda value, times: [value] * times, _numbers, st.sampled_from((100, 10_000))),
)
"""What JSON can say and no field means."""
deep = st.sampled_from(("[" * DEPTH, '{"a":' * DEPTH, "[" * DEPTH + "]" * DEPTH))


def names(known: Sequence[str]) -> st.SearchStrategy[str]:
    """Of fields: mostly `known` ones."""
    return st.one_of(st.sampled_from(known), st.sampled_from(known), _texts)


@st.composite
def json_bodies(draw: Draw, known: Sequence[str], valid: dict[str, Any]) -> bytes:
    """An object of fields, those of `valid` among them mostly; some are given twice."""
    fields = list(valid.items()) if draw(st.booleans()) else []
    fields += draw(st.lists(st.tuples(names(known), values), max_size=4))
    body = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in fields) + "}"
    is_nested = draw(st.integers(0, 19)) == 0
    sent = (draw(deep) if is_nested else body).encode()
    return draw(mutated((sent,))) if draw(st.integers(0, 3)) == 0 else sent
