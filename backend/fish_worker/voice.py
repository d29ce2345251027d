"""A loaded checkpoint that the published package speaks: text → codes, codes ↔ audio."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.prompt import Reference
from backend.fish_worker.package import published
from backend.worker.device import Place

Samples = NDArray[np.float32]

_GREEDY_TOP_P = 1e-6
"""Leaves the likeliest token alone, whatever is drawn."""
_LEAST_TEMPERATURE = 1e-5
_BELOW_TWO = 1.9999
"""The package refuses a temperature or a penalty of 2."""


class UserText(str):
    """Text that holds no control tokens, whatever it looks like."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What the package made of one text."""

    codes: Tensor
    """[N, frames]."""
    ended: bool
    """By itself, not at the limit."""
    prefill_s: float
    decode_s: float


class Voice:
    """Calls the package as its own inference engine does; not thread-safe, as little as that is."""

    def __init__(self, transformer: Any, codec: Any, place: Place) -> None:
        self.transformer = transformer.to(place.device, place.dtype)
        self.codec = codec.to(place.device)
        self._place = place
        self._end_id = transformer.tokenizer.get_token_id("<|im_end|>")
        _read_users_literally(transformer.tokenizer)
        self._manager = published("inference_engine.vq_manager").VQManager()
        self._manager.decoder_model = self.codec
        # Recordings are decoded, checked and resampled by us before they get here.
        self._manager.load_audio = lambda samples, rate_hz: samples
        # Now, and outside of inference mode: tensors made within it cannot be written without.
        with torch.device(place.device):
            self.transformer.setup_caches(
                max_batch_size=1, max_seq_len=transformer.config.max_seq_len, dtype=place.dtype
            )

    @property
    def positions(self) -> int:
        """How many tokens and frames there is room for: it attends over all of them, always."""
        return int(self.transformer.config.max_seq_len)

    @property
    def weights(self) -> list[Tensor]:
        """All parameters, of transformer and codec."""
        return [*self.transformer.parameters(), *self.codec.parameters()]

    def generate(
        self,
        text: str,
        references: Sequence[Reference],
        sampling: SamplingParams,
        max_new_tokens: int,
        between_tokens: Callable[[], None],
    ) -> Generated:
        """Codes of `text`; `max_new_tokens`, at least 2, counts the end token.

        `between_tokens` is called before each but the first token: what it raises ends this.
        """
        inference = published("models.text2semantic.inference")
        began_s = time.perf_counter()
        prefilled_s: float | None = None
        newest: Tensor | None = None

        def decode_one_token(**arguments: Any) -> Tensor:
            nonlocal prefilled_s, newest
            between_tokens()
            if prefilled_s is None:
                self._synchronize()
                prefilled_s = time.perf_counter()
            newest = inference.decode_one_token_ar(**arguments)
            return newest

        answers: Iterator[Any] = inference.generate_long(
            model=self.transformer,
            device=self._place.device,
            decode_one_token=decode_one_token,
            text=UserText(text),
            prompt_text=[UserText(reference.text) for reference in references],
            prompt_tokens=[reference.codes for reference in references],
            max_new_tokens=max_new_tokens,
            **_sampling(sampling),
        )
        codes = next(answer.codes for answer in answers if answer.codes is not None)
        assert newest is not None
        assert prefilled_s is not None
        return Generated(
            codes=codes,
            ended=int(newest[0, 0]) == self._end_id,
            prefill_s=prefilled_s - began_s,
            decode_s=time.perf_counter() - prefilled_s,
        )

    @torch.inference_mode()
    def encode(self, samples: Samples) -> Tensor:
        """Mono samples at the codec's rate -> codes [N, frames] on the CPU."""
        codes: Tensor = self._manager.encode_reference(samples, enable_reference_audio=True)
        return codes.cpu()

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Samples:
        """Codes [N, frames] -> mono samples [frames · frame_samples]."""
        with self._autocast():
            samples = self._manager.decode_vq_tokens(codes)
        out: Samples = samples.float().cpu().numpy().reshape(-1)
        return out

    def _autocast(self) -> AbstractContextManager[object]:
        """The package decodes in the precision of its transformer, but not on Apple's GPUs."""
        device, dtype = self._place.device.type, self._place.dtype
        if dtype == torch.float32 or device == "mps":
            return contextlib.nullcontext()
        return torch.autocast(device_type=device, dtype=dtype)

    def _synchronize(self) -> None:
        if self._place.device.type == "cuda":
            torch.cuda.synchronize(self._place.device)


def _sampling(asked: SamplingParams) -> dict[str, float]:
    """What the package's assertions accept. It has no greedy mode, but a tiny top_p is one."""
    is_greedy = asked.temperature == 0
    return {
        "temperature": min(max(asked.temperature, _LEAST_TEMPERATURE), _BELOW_TWO),
        "top_p": _GREEDY_TOP_P if is_greedy else asked.top_p,
        "repetition_penalty": min(asked.repetition_penalty, _BELOW_TWO),
    }


def _read_users_literally(tokenizer: Any) -> None:
    """Its tokenizer reads control tokens wherever they stand; in a `UserText` not any more."""
    encode = tokenizer.encode

    def literally(text: str, allowed_special: bool | set[str] = True) -> Any:
        return encode(text, False if isinstance(text, UserText) else allowed_special)

    tokenizer.encode = literally
