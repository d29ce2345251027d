"""Token ids and the prompt grid."""

import pytest
import torch

from backend.engine.prompt import Prompt, Reference
from backend.model.checkpoint import Checkpoint
from tests.parity.cases import CONTROL_TEXTS, REFERENCES, TEXT, reference_codes
from tests.parity.oracle import Arrays
from tests.parity.texts import strings


def _split(answers: Arrays, name: str) -> list[list[int]]:
    ids = answers[f"{name}/ids"].tolist()
    ends = answers[f"{name}/lengths"].cumsum().tolist()
    return [ids[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def test_token_ids_of_500_strings(loaded: dict[str, Checkpoint], answers: Arrays) -> None:
    tokenizer = loaded["tiny"].tokenizer
    theirs = _split(answers, "tokens")
    assert len(theirs) == len(set(strings())) == 500
    different = [
        text for text, ids in zip(strings(), theirs, strict=True) if tokenizer.encode(text) != ids
    ]
    assert not different
    assert len({i for ids in theirs for i in ids}) > 1000, "the vocabulary is hardly used"


def test_control_tokens_in_text_are_text_to_us(
    loaded: dict[str, Checkpoint], answers: Arrays
) -> None:
    """Deliberate: whoever writes the text must not end the speech or forge a reference."""
    tokenizer = loaded["tiny"].tokenizer
    text_ids = tokenizer.im_end_id - 4  # the control tokens begin four before
    for text, theirs in zip(CONTROL_TEXTS, _split(answers, "control"), strict=True):
        assert max(theirs) >= text_ids
        assert max(tokenizer.encode(text)) < text_ids


@pytest.mark.parametrize("count", [0, 1, 2])
def test_prompt_grid(loaded: dict[str, Checkpoint], answers: Arrays, name: str, count: int) -> None:
    checkpoint = loaded[name]
    theirs = torch.from_numpy(answers[f"{name}/grid{count}/grid"])
    config = checkpoint.config
    codes = reference_codes(
        {"codebook_size": config.codebook_size, "num_codebooks": config.num_codebooks}
    )
    references = [Reference(t, c) for t, c in zip(REFERENCES, codes, strict=True)][:count]
    prompt = Prompt.build(checkpoint.tokenizer, config.num_codebooks, TEXT, references)
    assert torch.equal(prompt.tokens, theirs[0].long())
    assert torch.equal(prompt.codes.T, theirs[1:].long())
