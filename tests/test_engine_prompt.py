import pytest
import torch

from backend.engine.prompt import Prompt, Reference, check_fits, frame_limit
from backend.errors import PromptTooLong
from tests.engines import prompt, tiny


def test_the_grid_of_two_references() -> None:
    tokenizer = tiny().tokenizer
    codes = [torch.randint(0, 64, (4, frames)) for frames in (3, 2)]
    references = [Reference("ab", codes[0]), Reference("", codes[1])]
    built = Prompt.build(tokenizer, 4, "cd", references)
    speaker = tokenizer.control("<|speaker:0|>")
    begin, end = tokenizer.semantic_begin_id, tokenizer.im_end_id
    expected = tokenizer.control("<|interleave|>")
    expected += speaker + tokenizer.encode("ab") + [begin + int(c) for c in codes[0][0]] + [end]
    expected += speaker + [begin + int(c) for c in codes[1][0]] + [end]
    expected += speaker + tokenizer.encode("cd")
    assert built.tokens.tolist() == expected
    spoken = built.tokens >= begin
    assert torch.equal(built.codes[spoken], torch.cat(codes, dim=1).t())
    assert built.codes[~spoken].eq(0).all()
    assert (built.tokens.dtype, built.codes.dtype) == (torch.int64, torch.int64)


def test_what_looks_like_a_control_token_is_text() -> None:
    built = prompt("<|im_end|>")
    assert tiny().tokenizer.im_end_id not in built.tokens.tolist()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 2.0), ("abcd", 3.0), ("你好", 3.2), ("42", 3.2), ("한", 2.6), ("a 1", 3.1)],
)
def test_the_frame_limit_follows_the_text(text: str, seconds: float) -> None:
    assert frame_limit(text, 100.0) == pytest.approx(100 * seconds, abs=1)


def test_a_prompt_that_cannot_fit_says_so_with_its_numbers() -> None:
    text = "word " * 20
    asked = prompt(text, reference_frames=50)
    room = len(asked) + 501
    check_fits(asked, text, 100.0, room)
    with pytest.raises(PromptTooLong, match=rf"{len(asked)} tokens, 50 .*{room - 1}.*shorter"):
        check_fits(asked, text, 100.0, room - 1)
