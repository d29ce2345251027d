"""What `native.h` says, in ctypes, field by field."""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p

TILE, MOST_ROWS, MOST_GROUPS, QUERIES = 16, 64, 8, 4
F32, BF16, I8, I6, I16 = range(5)
FRAME, READ, PRODUCT = range(3)


class Matrix(Structure):
    """A matrix in tiles."""

    _fields_ = [
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("kind", c_int32),
    ]


class Layer(Structure):
    """A layer of a transformer."""

    _fields_ = [
        *((name, Matrix) for name in ("qkv", "wo", "gate", "up", "down")),
        *((name, c_void_p) for name in ("attention_norm", "ffn_norm", "q_norm", "k_norm")),
    ]


class Stack(Structure):
    """A transformer."""

    _fields_ = [
        ("layers", POINTER(Layer)),
        ("rope", c_void_p),
        *(
            (name, c_int32)
            for name in ("layer_count", "dim", "heads", "key_heads", "head_dim", "hidden")
        ),
        ("cache_kind", c_int32),
        ("eps", c_float),
    ]


class Span(Structure):
    """Rows that follow each other in one row of keys and values."""

    _fields_ = [
        ("past", c_void_p),
        ("capacity", c_int64),
        ("begin", c_int32),
        ("count", c_int32),
    ]


class Slots(Structure):
    """Tensors of `engine/slots.py`."""

    _fields_ = [
        (name, c_void_p)
        for name in (
            *("tokens", "codes", "positions", "frames", "history", "keys"),
            *("temperature", "top_p", "penalty"),
        )
    ]


class Model(Structure):
    """A dual autoregressive transformer, and its rows."""

    _fields_ = [
        *((name, Stack) for name in ("slow", "fast")),
        *((name, Matrix) for name in ("head", "fast_head", "project_in")),
        *((name, c_void_p) for name in ("norm", "fast_norm")),
        *((name, c_void_p) for name in ("embeddings", "codebook_embeddings", "fast_embeddings")),
        ("embedding_kind", c_int32),
        ("semantic_begin", c_int64),
        *((name, c_int32) for name in ("codebooks", "codebook_size", "residual_size", "window")),
        ("embedding_scale", c_float),
        ("slots", Slots),
    ]


class Buffers(Structure):
    """What all threads work on."""

    _fields_ = [
        *(
            (name, c_void_p)
            for name in ("x", "fast_x", "qkv", "attended", "hidden", "logits", "fast_past")
        ),
        *((name, c_int32) for name in ("most_rows", "logits_width")),
    ]


class Scratch(Structure):
    """What one thread works in."""

    _fields_ = [(name, c_void_p) for name in ("x", "q", "scales", "sums", "scores")]


class Pool(Structure):
    """A job, and those who do it."""

    _fields_ = [
        ("at", c_uint64),
        *((name, c_int32) for name in ("done", "job", "is_open")),
        ("first_turn", c_uint32),
        *((name, c_int32) for name in ("threads", "kind", "rows")),
        *((name, c_void_p) for name in ("row_slots", "tokens", "codes")),
        ("spans", POINTER(Span)),
        ("made", c_void_p),
        ("matrix", POINTER(Matrix)),
        *((name, c_void_p) for name in ("input", "output")),
        ("model", POINTER(Model)),
        ("buffers", POINTER(Buffers)),
        ("scratches", POINTER(Scratch)),
        ("states", POINTER(c_int32)),
    ]


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """`library` with the types of what it exports."""
    pool = POINTER(Pool)
    library.announce.argtypes, library.announce.restype = (pool,), c_int32
    library.lead.argtypes, library.lead.restype = (pool,), None
    numbers = (c_int32, c_int64, c_int64, c_int32)
    library.pack_tiles.argtypes = (c_void_p, *numbers, c_void_p)
    library.pack_tiles.restype = None
    library.serve.argtypes, library.serve.restype = (pool, c_int32, c_int32), c_int32
    return library
