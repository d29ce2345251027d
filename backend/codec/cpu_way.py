"""How the decoder of a codec is read on a CPU: in kernels of our own, or else by torch in float32.

The kernels are tried on this machine with the codec's own weights. They are kept where they sound
alike and are the faster ones, which they are wherever they were measured.
"""

import math
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import cast

import torch
from loguru import logger
from torch import Tensor

from backend.codec.native_parts import encoding_stages, native_part
from backend.codec.way import LEAST_SNR_DB, PLAIN, Way, snr_of, some_codes
from backend.model.codec_layout import DecodingParts, use_decoding_parts_
from backend.model.config import CodecConfig
from backend.model.stored_codec import DECODING, Stages, StoredCodec
from backend.model.stream import Stream, Streaming
from backend.native.codec import CodecKernels, wide_kernels
from backend.native.compiler import CannotCompile

NATIVE = (Way("bf16", "native"), Way("fp32", "native"))
"""The faster one first. In bf16 are its weights, and what is multiplied where the CPU multiplies
pairs of such numbers; all else stays float32."""
_PIECES = (2, 2)
"""Frames; the second piece is timed, when its size was seen before."""


def read_decoder_(
    stored: StoredCodec, library: Path | None, known_snr_db: float | None = None
) -> Way:
    """Read what decodes, so that it computes with the kernels of `library` where that is better.

    `known_snr_db` says that the first native way was tried before with these weights, and was.

    Part by part: beside those that are done, one part alone is ever held in float32. Where the
    kernels are better, what encodes will have them too. OSError where they cannot be loaded.
    """
    if library is not None and (way := _natively(stored, library, known_snr_db)) is not None:
        return way
    for name in DECODING:
        stored.read_(name)
    return PLAIN


def _natively(stored: StoredCodec, library: Path, known_snr_db: float | None) -> Way | None:
    """The first native way that is better, in which the codec is left; None if none is."""
    try:
        for way in NATIVE:
            is_wide = way.precision == "fp32"
            kernels = wide_kernels(library) if is_wide else CodecKernels(library)
            if known_snr_db is None:
                tried, parts, is_faster = _tried(stored, kernels, way)
            else:
                tried, is_faster = replace(way, snr_db=known_snr_db), True
                parts = _made(stored, kernels)
            if tried.snr_db >= LEAST_SNR_DB and is_faster:
                use_decoding_parts_(stored.codec, parts)
                # Tried once: a compiler that fails takes seconds to.
                stored.find_stages = cache(partial(_stages, library, stored.codec.config))
                return tried
            slower = "" if is_faster else ", and slower than torch's kernels"
            logger.info("The codec is not computed in {}{}.", tried, slower)
    except ValueError as error:
        logger.info("The codec has shapes that our kernels do not know: {}", error)
    except CannotCompile as error:
        logger.warning("Speech is decoded slowly: there are no kernels in float32: {}", error)
    return None


def _stages(library: Path, config: CodecConfig) -> Stages | None:
    """Stages in kernels that are compiled now; None, which is told, where they cannot be."""
    try:
        return partial(encoding_stages, wide_kernels(library), config)
    except (CannotCompile, OSError) as error:
        logger.warning(
            "Recordings are encoded slowly, and with more memory, until the worker starts anew: "
            "their kernels cannot be made: {}",
            error,
        )
        return None


def _made(stored: StoredCodec, kernels: CodecKernels) -> DecodingParts:
    """The parts that use `kernels`."""
    made = []
    for name in DECODING:
        made.append(native_part(kernels, stored.lend_(name), stored.codec.config))
        stored.let_go_(name)
    first, second, third = made
    return first, second, third


@torch.inference_mode()
def _tried(stored: StoredCodec, kernels: CodecKernels, way: Way) -> tuple[Way, DecodingParts, bool]:
    """What was heard of a way, the parts that use it, and whether they were the faster ones."""
    codec = stored.codec
    codes = some_codes(codec.config, 1, sum(_PIECES))
    given = [codec.quantizer.look_up(piece) for piece in torch.split(codes, list(_PIECES), -1)]
    wanted, plain_s, native = given, 0.0, []
    for name in DECODING:
        part = stored.read_(name)
        wanted, took_s = _through(cast(Streaming, part), wanted)
        plain_s += took_s
        native.append(native_part(kernels, part, codec.config))
        stored.let_go_(name)  # what was not taken of it
    found, native_s = given, 0.0
    for made in native:
        found, took_s = _through(made, found)
        native_s += took_s
    snr_db = snr_of(torch.cat(wanted, -1), torch.cat(found, -1))
    first, second, third = native
    tried = replace(way, snr_db=snr_db if math.isfinite(snr_db) else -math.inf)
    return tried, (first, second, third), native_s < plain_s


def _through(part: Streaming, pieces: list[Tensor]) -> tuple[list[Tensor], float]:
    """What `part` makes of a signal's pieces, and seconds of CPU that the last one took.

    By one thread: what that takes is much the same however busy the machine is.
    """
    stream, made, began_s, threads = Stream(), [], 0.0, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for piece in pieces:
            began_s = time.thread_time()
            made.append(part(piece, stream))
        return made, time.thread_time() - began_s
    finally:
        torch.set_num_threads(threads)
