"""The codec: codes of audio, and audio of codes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.dac import DAC
from tests.parity.cases import FULL_CODEC, Questions, codec_question
from tests.parity.oracle import Arrays, ask
from tests.parity.texts import ranks

TOLERANCE = 1e-4
Record = Callable[[str, object], None]


def _compare(codec: DAC, answers: Arrays, key: str, record: Record) -> None:
    def theirs(name: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(answers[f"{key}/{name}"]))

    with torch.inference_mode():
        encoded = codec.encode(theirs("audio"))
        wrong = (encoded != theirs("encoded")).sum().item()
        differences = []
        for name, codes in (("decoded", theirs("encoded")), ("spoken", theirs("codes"))):
            ours = codec.decode(codes.long())
            assert ours.shape == theirs(name).shape
            assert theirs(name).std() > 0.02, "silence proves nothing"
            differences.append((ours - theirs(name)).abs().max().item())
    variety = min(len(book.unique()) for book in encoded[0])
    print(f"{key}: {wrong} of {encoded.numel()} codes differ, waveforms by {max(differences):.1e}")
    print(f"{key}: a book has at least {variety} distinct codes in {encoded.shape[-1]} frames")
    record("max_abs_difference", max(differences))
    assert encoded.shape == theirs("encoded").shape
    assert wrong == 0
    assert max(differences) <= TOLERANCE
    assert variety > 8, "codes that hardly change prove little"


def test_small_codec(
    loaded: dict[str, Checkpoint], answers: Arrays, name: str, record_property: Record
) -> None:
    _compare(loaded[name].codec, answers, f"{name}/codec", record_property)


@pytest.mark.slow
def test_full_size_codec(tmp_path: Path, record_property: Record) -> None:
    """The shape of the package's own `modded_dac_vq.yaml`."""
    folder = FULL_CODEC.write(tmp_path / "full", ranks())
    asked = Questions([], {})
    codec_question(asked, FULL_CODEC, folder, seconds=1.0)
    answers = asked.arrays | ask(asked.jobs, asked.arrays, tmp_path / "oracle")
    _compare(load_checkpoint(folder).codec, answers, f"{FULL_CODEC.name}/codec", record_property)
