"""The shipped voice can be understood: a small version of `training.demo_voice.evaluate`."""

import pytest

from training.demo_voice.evaluate import HELDOUT, cloning, intelligibility

SENTENCES = HELDOUT.read_text("utf-8").splitlines()


@pytest.mark.timeout(400)
def test_intelligible() -> None:
    result = intelligibility(None, SENTENCES[:12], seed=1, codec=None)
    assert result["recognised"] >= 11
    assert result["ended_by_themselves"] == 12
    assert result["nearer_to_its_own"] == 12
    assert result["cepstral_distance_same"] < 0.6 * result["cepstral_distance_other"]
    assert abs(result["level_off_db"]) < 1
    assert 0.9 < result["length_ratio_mean"] < 1.1
    # 140 words leave the rates some 0.08 of chance each; the table in training/ has all sentences.
    assert result["wer_ratio"] < 1.8


@pytest.mark.timeout(400)
def test_follows_a_reference() -> None:
    result = cloning(None, SENTENCES, seed=1, pairs=8)
    assert result["ended_by_themselves"] == 8
    assert result["pitch_rank_correlation"] > 0.6
