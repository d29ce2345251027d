"""Sampling probabilities, where we follow the package."""

import torch

from backend.engine.sampler import SamplingRows, penalties, probabilities
from tests.parity.cases import SETTINGS, previous_codes, sampling_logits
from tests.parity.oracle import Arrays


def test_probabilities(answers: Arrays) -> None:
    """The window is given here: filling it differs on purpose, and so does which of the codes with
    the same logit are kept (see __init__.py)."""
    logits = sampling_logits()
    ones = torch.ones(len(logits), 1)
    all_theirs = torch.from_numpy(answers["probabilities/probs"])
    for theirs, setting in zip(all_theirs, SETTINGS, strict=True):
        temperature, top_p, penalty = setting
        rows = SamplingRows(
            temperature=ones * temperature,
            top_p=ones * top_p,
            repetition_penalty=ones * penalty,
            all_greedy=False,
            any_greedy=False,
            any_penalty=penalty != 1,
        )
        factors = penalties(rows, previous_codes()[:, :, None], logits.shape[-1])[:, 0]
        ours = probabilities(logits, rows, factors if rows.any_penalty else None)
        has_ties = torch.tensor([len(row.unique()) < len(row) for row in logits])
        assert has_ties.sum() == 1
        ours[has_ties], theirs[has_ties] = (each[has_ties].sort().values for each in (ours, theirs))
        assert (ours - theirs).abs().max() <= 1e-5, setting
