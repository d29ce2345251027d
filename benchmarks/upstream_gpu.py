"""`python -m benchmarks.upstream_gpu`: how fast `fish-speech==0.1.0` makes frames on this card.

To be run by an interpreter that has the package. It speaks at openaudio-s1-mini's size with random
weights through the package's own `init_model` and `generate_long`, with its cache of 8,192
positions: eager, and as its `--compile` has it (some four minutes on a GPU). The speed is that of
frames after the first ones, prompt and codec left out. Prints a table, then one JSON line, which
`benchmarks.gpu --upstream FILE` reads. `--tiny --device cpu` tries the script itself.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from backend.bench.random_checkpoint import S1_MINI, byte_tokenizer, randomize_weight_
from backend.fish_worker.package import published
from tests.tiny import TINY

TEXT = "The old lighthouse keeper climbed the stairs every evening to light the lamp for the ships."
SAMPLING = {"temperature": 0.7, "top_p": 0.7, "repetition_penalty": 1.1}
WARM_FRAMES = 16
"""Not counted: in them a CUDA graph is recorded again, as the package makes its fast transformer's
cache anew for each request."""
LEGAL_SCALE, ILLEGAL_SCALE = 4.0, 1e-3
"""Of the embeddings of tokens that are speech and of all others: the package may choose any, and
would look up the code that a text token has not."""
TINY_CONTEXT_TOKENS = 4096
"""The package refuses a prompt that leaves fewer than 2,048 positions behind it."""


@dataclass(slots=True)
class Stopwatch:
    """Notes when each frame begins; the package waits for the device after each."""

    decode_one_token: Callable[..., Any]
    began_s: list[float] = field(default_factory=list)
    first_position: int = 0

    def __call__(self, **arguments: Any) -> Any:
        if not self.began_s:
            self.first_position = int(arguments["input_pos"][0])
        self.began_s.append(time.perf_counter())
        return self.decode_one_token(**arguments)

    @property
    def frames_s(self) -> float:
        """Frames a second after the first `WARM_FRAMES`."""
        counted = self.began_s[WARM_FRAMES:]
        return (len(counted) - 1) / (counted[-1] - counted[0])

    @property
    def mean_context(self) -> int:
        """Positions that a counted frame had before it, on average."""
        return self.first_position + (WARM_FRAMES + len(self.began_s)) // 2


class Upstream:
    """The package with random weights on `device`."""

    def __init__(self, config: dict[str, Any], device: str, compiled: bool) -> None:
        self._inference = published("models.text2semantic.inference")
        self._device, self._config = device, config
        model = _random_model(config, device)
        # Its loader reads a file into main memory first; everything after that is its own.
        self._inference.DualARTransformer.from_pretrained = staticmethod(lambda *_, **__: model)
        self._model, self._decode = self._inference.init_model(
            "", device, torch.bfloat16, compile=compiled
        )

    def speak(self, context: int, frames: int) -> Stopwatch:
        """Make `frames`, of which those that count have `context` positions before them."""
        watch = Stopwatch(self._decode)
        books, size = self._config["num_codebooks"], min(self._config["codebook_size"], 1024)
        prompt = max(1, context - (WARM_FRAMES + frames) // 2 - len(TEXT) - 32)
        codes = torch.randint(size, (books, prompt), generator=torch.Generator().manual_seed(0))
        for _ in self._inference.generate_long(
            model=self._model,
            device=self._device,
            decode_one_token=watch,
            text=TEXT,
            max_new_tokens=frames + 1,  # the prompt's pass makes the first
            prompt_text=["Hello."],
            prompt_tokens=[codes],
            **SAMPLING,
        ):
            pass
        if len(watch.began_s) < frames:
            raise RuntimeError(f"it ended after {len(watch.began_s)} of {frames} frames")
        return watch


def _random_model(config: dict[str, Any], device: str) -> Any:
    """Its DualARTransformer, filled as `backend.bench.random_checkpoint` fills ours."""
    llama, tokens = published("models.text2semantic.llama"), byte_tokenizer(config["codebook_size"])
    with tempfile.TemporaryDirectory() as folder:
        tokens.to_folder(Path(folder))
        tokenizer = published("tokenizer").FishTokenizer.from_pretrained(folder)
    with torch.device(device):
        model = llama.DualARTransformer(llama.DualARModelArgs(**config), tokenizer)
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in model.named_parameters():
        randomize_weight_(
            name, weight, lambda shape: torch.randn(shape, device=device, generator=generator)
        )
    scale = torch.full((config["vocab_size"], 1), ILLEGAL_SCALE, device=device)
    scale[tokens.semantic_begin_id : tokens.semantic_begin_id + config["codebook_size"]] = (
        LEGAL_SCALE
    )
    with torch.no_grad():
        model.embeddings.weight *= scale
    return model


def measure(upstream: Upstream, way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Speed at each context, printed and returned."""
    began_s = time.perf_counter()
    first = upstream.speak(arguments.context[0], WARM_FRAMES + 2)
    result: dict[str, Any] = {"first_request_s": time.perf_counter() - began_s}
    # What torch.compile does, it does in the first frames of the first request.
    result["compile_s"] = first.began_s[4] - first.began_s[0] if way == "compiled" else 0.0
    for context in arguments.context:
        watch = upstream.speak(context, arguments.frames)
        result[f"frames_s_{context}"] = watch.frames_s
        print(f"{way:9} {watch.mean_context:8} {watch.frames_s:9.2f}", flush=True)
    if torch.cuda.is_available():
        result["reserved_mb"] = torch.cuda.max_memory_reserved() / 1e6
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--context", type=int, nargs="+", default=[256, 4000])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand weights")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--skip-compile", action="store_true", help="eager alone")
    way.add_argument("--only-compile", action="store_true", help="compiled alone")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    arguments = parser.parse_args()
    config = {**TINY, "max_seq_len": TINY_CONTEXT_TOKENS} if arguments.tiny else S1_MINI
    is_cuda = arguments.device.startswith("cuda")
    result: dict[str, Any] = {
        "package": "fish-speech 0.1.0",
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(arguments.device) if is_cuda else "cpu",
    }
    print(f"{'way':9} {'context':>8} {'frames/s':>9}")
    for name, is_wanted in (
        ("eager", not arguments.only_compile),
        ("compiled", not arguments.skip_compile),
    ):
        if is_wanted:
            upstream = Upstream(config, arguments.device, compiled=name == "compiled")
            result[name] = measure(upstream, name, arguments)
            del upstream
    text = json.dumps(result)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
