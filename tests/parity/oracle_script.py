"""Runs inside the oracle's environment, by `oracle.py`: answers jobs with the package's own code.

    oracle_script.py jobs.json given.npz answers.npz

A job is an object with a `name` and a `kind`, one of the functions at the end. Its arrays are
'<name>/<key>' in given.npz, and so are its answers in answers.npz.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.fish_worker import package
from backend.fish_worker.package import published
from backend.model.config import CodecConfig


@functools.lru_cache(maxsize=1)
def transformer(folder: str) -> Any:
    return package.load_transformer(Path(folder)).to(dtype=torch.float32)


@functools.lru_cache(maxsize=1)
def tokenizer(folder: str) -> Any:
    return published("tokenizer").FishTokenizer.from_pretrained(folder)


def long(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array)).long()


def tokens(job: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    """`texts` -> `ids`, one after another, and `lengths`."""
    lists = [tokenizer(job["folder"]).encode(text) for text in job["texts"]]
    return {
        "ids": np.concatenate(lists).astype(np.int64),
        "lengths": np.array([len(ids) for ids in lists]),
    }


def grid(job: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`text` and `reference_texts`, arrays `codes0`, … -> `grid` [1 + N, T] of the prompt."""
    content = published("content_sequence")
    sequence = content.ContentSequence(modality="interleave")
    for index, text in enumerate(job["reference_texts"]):
        codes = content.VQPart(codes=long(given[f"codes{index}"]))
        sequence.append([content.TextPart(text=text), codes], add_end=True, speaker=0)
    sequence.append([content.TextPart(text=job["text"])], add_end=False, speaker=0)
    values, _, _ = sequence.encode_for_inference(
        tokenizer(job["folder"]), num_codebooks=job["num_codebooks"]
    )
    return {"grid": values.numpy()}


@torch.inference_mode()
def logits(job: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`grid` [1 + N, T] -> `slow` [T, vocabulary]; `fast` [M, N - 1, C] of the M last frames."""
    llama = published("models.text2semantic.llama")
    # An instance of its own: once caches are set up, the whole-grid path is gone.
    transformer.cache_clear()
    model = transformer(job["folder"])
    inp = long(given["grid"])
    whole = llama.BaseTransformer.forward_generate(model, inp[None], None, None, None, True)
    frames = job["frames"]
    hidden = model.fast_project_in(whole.hidden_states[0, -frames - 1 : -1])
    model.setup_caches(1, model.config.max_seq_len, torch.float32)
    fast = []
    for start, codes in zip(hidden, inp[1:, -frames:].T, strict=True):
        for layer in model.fast_layers:
            layer.attention.kv_cache.k_cache.zero_()
            layer.attention.kv_cache.v_cache.zero_()
        model.forward_generate_fast(start[None, None], torch.tensor([0]))
        rows = []
        for book in range(1, model.config.num_codebooks):
            x = model.fast_embeddings(codes[book - 1 : book])[None]
            rows.append(model.forward_generate_fast(x, torch.tensor([book]))[0, 0])
        fast.append(torch.stack(rows))
    transformer.cache_clear()
    return {"slow": whole.logits[0].numpy(), "fast": torch.stack(fast).numpy()}


def greedy(job: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """As `grid`, and `frames` -> `grid` [1 + N, T + frames] and `prompt`, the T of its prompt."""
    inference = published("models.text2semantic.inference")
    model = transformer(job["folder"])
    codes = [long(given[f"codes{index}"]) for index in range(len(job["reference_texts"]))]
    seen: dict[str, Any] = {}
    original = inference.generate

    def watched(**arguments: Any) -> Any:
        seen["prompt"] = arguments["prompt"].size(1)
        seen["grid"] = original(**arguments)
        return seen["grid"]

    inference.generate = watched
    try:
        # A tiny top_p leaves the likeliest token alone, whatever the noise.
        for _ in inference.generate_long(
            model=model,
            device="cpu",
            decode_one_token=inference.decode_one_token_ar,
            text=job["text"],
            max_new_tokens=job["frames"],
            top_p=1e-6,
            repetition_penalty=1.0,
            temperature=1e-5,
            prompt_text=job["reference_texts"],
            prompt_tokens=codes,
        ):
            pass
    finally:
        inference.generate = original
    return {"grid": seen["grid"].numpy(), "prompt": np.array(seen["prompt"])}


def probabilities(job: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`logits` [K, V], `previous` [K, W] and `settings` of (temperature, top_p, penalty)
    -> `probs` [settings, K, V]."""
    to_probs = published("models.text2semantic.inference").logits_to_probs
    rows, windows = torch.from_numpy(given["logits"]), long(given["previous"])
    answer = []
    for setting in job["settings"]:
        numbers = [torch.tensor(number) for number in setting]
        pairs = zip(rows, windows, strict=True)
        answer.append(torch.stack([to_probs(row.clone(), *numbers, seen) for row, seen in pairs]))
    return {"probs": torch.stack(answer).numpy()}


@torch.inference_mode()
def codec(job: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`audio` [1, S], `codes` [1, N, T] -> `encoded`, its `decoded`, and `spoken` from `codes`."""
    model = load_codec(job)
    encoded, _ = model.encode(torch.from_numpy(given["audio"]))
    answers = {"encoded": encoded.numpy()}
    for name, codes in (("decoded", encoded), ("spoken", long(given["codes"]))):
        waveform, _ = model.decode(codes, torch.tensor([codes.shape[-1]]))
        answers[name] = waveform[:, 0].numpy()
    return answers


def load_codec(job: dict[str, Any]) -> Any:
    """The DAC of `job`: `config` names its shape, or is null for the package's own file."""
    config = None if job["config"] is None else CodecConfig.from_json(job["config"])
    if config is not None:
        _check_tables(job, config)
    return package.load_codec(Path(job["folder"]), config)


def _check_tables(job: dict[str, Any], config: CodecConfig) -> None:
    """The file's tables, where it has any, must be those that the package computes itself."""
    state = torch.load(Path(job["folder"]) / "codec.pth", weights_only=True)
    own = package.build_codec(config, job["positions"], job["positions"]).state_dict()
    for key in state.keys() & set(job["tables"]):
        if not torch.equal(state[key], own[key]):
            raise SystemExit(f"{key} of codec.pth is not the package's own")


KINDS: dict[str, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "tokens": tokens,
    "grid": grid,
    "logits": logits,
    "greedy": greedy,
    "probabilities": probabilities,
    "codec": codec,
}


def main(questions: str, given: str, answers: str) -> None:
    torch.set_num_threads(1)  # see conftest.py
    with np.load(given) as file:
        arrays = {key: file[key] for key in file.files}
    found: dict[str, Any] = {}
    for job in json.loads(Path(questions).read_text("utf-8")):
        prefix = job["name"] + "/"
        mine = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        begin = time.perf_counter()
        for key, value in KINDS[job["kind"]](job, mine).items():
            found[prefix + key] = value
        found[prefix + "seconds"] = np.array(time.perf_counter() - begin)
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
