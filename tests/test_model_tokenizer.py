"""Text to token ids, and tokenizer files that are not right."""

import json
from pathlib import Path

import pytest

from backend.bench.random_checkpoint import byte_tokenizer, special_tokens
from backend.errors import BadCheckpoint
from backend.model.tokenizer import IM_END, INTERLEAVE, SPEAKER, Tokenizer

BYTES = {bytes([i]): i for i in range(256)}


def test_bytes_are_their_own_ids() -> None:
    assert byte_tokenizer(8).encode("Aé猫") == list("Aé猫".encode())


def test_pairs_are_merged_by_rank() -> None:
    ranks = {**BYTES, b"ab": 256, b"bc": 257, b"abc": 258}
    tokenizer = byte_tokenizer(8, ranks)
    assert tokenizer.encode("abc") == [258]
    assert tokenizer.encode("xbc") == [ord("x"), 257]
    assert tokenizer.encode("ab c") == [256, ord(" "), ord("c")]


def test_special_tokens_follow_the_last_rank_in_their_order() -> None:
    tokenizer = byte_tokenizer(8)
    assert tokenizer.vocab_size == 256 + len(special_tokens(8))
    assert tokenizer.control(INTERLEAVE) == [256 + special_tokens(8).index(INTERLEAVE)]
    assert tokenizer.control(IM_END) == [tokenizer.im_end_id]
    assert tokenizer.semantic_begin_id == 256 + special_tokens(8).index("<|semantic:0|>")
    assert tokenizer.semantic_tokens == 8


@pytest.mark.parametrize("text", ["<|im_end|>", "a <|semantic:5|> b", "<|interleave|>"])
def test_control_tokens_in_text_are_text(text: str) -> None:
    assert byte_tokenizer(8).encode(text) == list(text.encode())


def test_a_control_token_that_is_not_known_is_spelt_out() -> None:
    assert byte_tokenizer(8).control(SPEAKER) == list(SPEAKER.encode())


def test_long_text_is_read_whole() -> None:
    text = "ab " * 150_000
    assert byte_tokenizer(8).encode(text) == list(text.encode())


def test_files_are_read_back(tmp_path: Path) -> None:
    ranks = {**BYTES, b"\xc3\xa9": 256, b" a": 257}
    byte_tokenizer(8, ranks).to_folder(tmp_path)
    back = Tokenizer.from_folder(tmp_path)
    assert back.encode("é a") == [256, 257]
    assert back.control(IM_END) == byte_tokenizer(8, ranks).control(IM_END)


def test_special_tokens_may_be_a_list(tmp_path: Path) -> None:
    byte_tokenizer(8).to_folder(tmp_path)
    (tmp_path / "special_tokens.json").write_text(json.dumps(special_tokens(8)), "utf-8")
    assert Tokenizer.from_folder(tmp_path).semantic_tokens == 8


@pytest.mark.parametrize("line", ["QQ==", "QQ== x", "!!! 3", "Q 3", "é 3", "QQ== 3 4"])
def test_a_bad_line_of_ranks_is_refused(tmp_path: Path, line: str) -> None:
    byte_tokenizer(8).to_folder(tmp_path)
    path = tmp_path / "tokenizer.tiktoken"
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.tiktoken"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "3", "[1, 2]", '"abc"'])
def test_bad_special_tokens_are_refused(tmp_path: Path, text: str) -> None:
    byte_tokenizer(8).to_folder(tmp_path)
    (tmp_path / "special_tokens.json").write_text(text, "utf-8")
    with pytest.raises(BadCheckpoint, match=r"special_tokens\.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    "special",
    [
        [IM_END, INTERLEAVE],
        [IM_END, "<|semantic:0|>"],
        [INTERLEAVE, "<|semantic:0|>"],
        [IM_END, INTERLEAVE, "<|semantic:0|>", "<|other|>", "<|semantic:1|>"],
    ],
)
def test_needed_special_tokens(special: list[str]) -> None:
    with pytest.raises(BadCheckpoint):
        Tokenizer(BYTES, special)


@pytest.mark.parametrize(
    "ranks",
    [
        {**BYTES, b"ab": 5},
        {**BYTES, b"ab": -1},
        {**BYTES, b"ab": 258},
        {**BYTES, b"": 256},
        {token: rank for token, rank in BYTES.items() if token != b"a"},
    ],
    ids=["twice", "negative", "special", "empty", "no byte"],
)
def test_ranks_that_tiktoken_would_panic_on(ranks: dict[bytes, int]) -> None:
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.tiktoken"):
        Tokenizer(ranks, special_tokens(8))
