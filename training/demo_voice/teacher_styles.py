"""The teacher's English voices: for each a style vector that depends on a sentence's length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VOICES = (
    "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole",
    "af_nova", "af_river", "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir",
    "am_liam", "am_michael", "am_onyx", "am_puck", "am_santa", "bf_alice", "bf_emma",
    "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis",
)  # fmt: skip
"""a and b: American and British; f and m: women and men."""
_ROWS, _WIDTH = 510, 256
_KNOTS = np.unique(np.r_[0:12:2, np.geomspace(12, _ROWS - 1, 34).round()]).astype(np.int64)


def pack_styles(folder: Path, path: Path) -> float:
    """Keep 40 of each voice's 510 rows as halves; the mean error of the rows in between, relative
    to how much the rows of different voices differ."""
    packs = np.stack(
        [np.fromfile(folder / f"{name}.bin", "<f4").reshape(_ROWS, _WIDTH) for name in VOICES]
    )
    np.save(path, packs[:, _KNOTS].astype(np.float16))
    styles = Styles(path)
    weights = np.eye(len(VOICES))
    made = np.stack([styles.rows(w, np.arange(1, _ROWS + 1)) for w in weights])
    spread = np.sqrt(np.mean((packs - packs.mean(0)) ** 2))
    return float(np.sqrt(np.mean((made - packs) ** 2)) / spread)


class Styles:
    """Style vectors of blends of the voices."""

    def __init__(self, path: Path) -> None:
        self._packs = np.load(path).astype(np.float32)

    def rows(
        self, weights: Sequence[float] | NDArray[np.floating], phonemes: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """For one speaker and sentences of so many phonemes: [sentences, 256]."""
        blend = np.tensordot(np.asarray(weights, np.float32), self._packs, 1)
        at = np.interp(np.clip(phonemes - 1, 0, _ROWS - 1), _KNOTS, np.arange(len(_KNOTS)))
        below = np.minimum(at.astype(np.int64), len(_KNOTS) - 2)
        share = (at - below).astype(np.float32)[:, None]
        row: NDArray[np.float32] = blend[below] * (1 - share) + blend[below + 1] * share
        return row
