"""Text ↔ token ids: a tiktoken BPE and the special tokens beside it.

What users type is always text: `encode` never makes a control token, whatever it reads.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import tiktoken

from backend.errors import BadCheckpoint

IM_END = "<|im_end|>"
INTERLEAVE = "<|interleave|>"
SPEAKER = "<|speaker:0|>"

_PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"\p{P}",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        # The package's pattern has `(\?!\S)` here, a literal "?!" and no lookahead; it is kept,
        # because the ids must be those the model was trained on.
        r"\s+(\?!\S)",
        r"\s+",
    )
)
_PIECE_CHARACTERS = 400_000
"""tiktoken overflows its stack on longer strings; the package cuts at the same place."""


class Tokenizer:
    """Token ids of texts, of control tokens and of semantic codes."""

    def __init__(self, ranks: dict[bytes, int], special_tokens: Sequence[str]) -> None:
        # The package numbers the special tokens in file order behind the last rank.
        special = {token: len(ranks) + index for index, token in enumerate(special_tokens)}
        _check_ranks(ranks, set(special.values()))
        self._encoding = tiktoken.Encoding(
            "fish", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=special
        )
        self._special = special
        semantic = [special.get(f"<|semantic:{code}|>") for code in range(len(special))]
        self.semantic_tokens = semantic.index(None) if None in semantic else len(semantic)
        if self.semantic_tokens == 0 or IM_END not in special or INTERLEAVE not in special:
            raise BadCheckpoint(
                f"special_tokens.json must hold <|semantic:0|>, {IM_END} and {INTERLEAVE}"
            )
        self.semantic_begin_id = special["<|semantic:0|>"]
        if semantic[: self.semantic_tokens] != list(
            range(self.semantic_begin_id, self.semantic_begin_id + self.semantic_tokens)
        ):
            raise BadCheckpoint("the semantic tokens of special_tokens.json are not consecutive")
        self.im_end_id = special[IM_END]

    @property
    def vocab_size(self) -> int:
        """Ids in use: text and special."""
        return self._encoding.n_vocab

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read `tokenizer.tiktoken` and `special_tokens.json`; BadCheckpoint says what is wrong."""
        ranks: dict[bytes, int] = {}
        path = folder / "tokenizer.tiktoken"
        try:
            lines = path.read_text("ascii").splitlines()
        except OSError as error:
            raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise BadCheckpoint(f"{path} is not plain ASCII") from error
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("= "):
                continue
            try:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except ValueError as error:
                raise BadCheckpoint(f"{path} line {number} is not 'base64 rank'") from error
        path = folder / "special_tokens.json"
        try:
            special = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise BadCheckpoint(f"{path} is not JSON: {error}") from error
        if not isinstance(special, dict | list) or not all(isinstance(t, str) for t in special):
            raise BadCheckpoint(f"{path} must map special tokens to ids")
        return cls(ranks, list(special))

    def to_folder(self, folder: Path) -> None:
        """Write the two files that `from_folder` reads."""
        ranks = sorted(self._encoding._mergeable_ranks.items(), key=lambda item: item[1])
        lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks]
        (folder / "tokenizer.tiktoken").write_text("".join(lines), "ascii")
        (folder / "special_tokens.json").write_text(json.dumps(self._special, indent=0), "utf-8")

    def encode(self, text: str) -> list[int]:
        """Token ids of text; control tokens in it are read as the characters they are made of."""
        ids: list[int] = []
        for begin in range(0, len(text), _PIECE_CHARACTERS):
            ids += self._encoding.encode_ordinary(text[begin : begin + _PIECE_CHARACTERS])
        return ids

    def control(self, token: str) -> list[int]:
        """Ids of a control token of ours; one the checkpoint does not know is spelt as text."""
        return [self._special[token]] if token in self._special else self.encode(token)


def _check_ranks(ranks: dict[bytes, int], taken: set[int]) -> None:
    """tiktoken panics, past any `except Exception`, on ranks that it cannot use."""
    ids = set(ranks.values())
    lacking = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if lacking:
        raise BadCheckpoint(f"tokenizer.tiktoken has no token for the bytes {lacking}")
    if len(ids) != len(ranks) or ids & taken or min(ids) < 0 or b"" in ranks:
        raise BadCheckpoint("tokenizer.tiktoken gives ids twice, below 0 or to special tokens")
