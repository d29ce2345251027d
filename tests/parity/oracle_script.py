"""Runs inside the oracle's environment, by `oracle.py`: answers jobs with the package's own code.

    oracle_script.py jobs.json given.npz answers.npz

A job is an object with a `name` and a `kind`, one of the functions at the end. Its arrays are
'<name>/<key>' in given.npz, and so are its answers in answers.npz.
"""

import functools
import importlib
import json
import math
import sys
import time
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch

# There is no CPU build of torchaudio on PyPI, and nothing that runs here calls it.
_stand_in = types.ModuleType("torchaudio")
_stand_in.__spec__ = ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = _stand_in


def package(name: str) -> Any:
    """A module of fish_speech; imported late, and unknown to our type checker."""
    return importlib.import_module(f"fish_speech.{name}")


@functools.lru_cache(maxsize=1)
def transformer(folder: str) -> Any:
    model = package("models.text2semantic.llama").DualARTransformer.from_pretrained(
        folder, load_weights=True
    )
    return model.to(dtype=torch.float32).eval()


@functools.lru_cache(maxsize=1)
def tokenizer(folder: str) -> Any:
    return package("tokenizer").FishTokenizer.from_pretrained(folder)


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
    content = package("content_sequence")
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
    llama = package("models.text2semantic.llama")
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
    inference = package("models.text2semantic.inference")
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
    to_probs = package("models.text2semantic.inference").logits_to_probs
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
    if job["config"] is None:
        home = Path(package("models").__path__[0]).parent
        settings = importlib.import_module("omegaconf").OmegaConf.load(
            home / "configs/modded_dac_vq.yaml"
        )
        model = importlib.import_module("hydra.utils").instantiate(settings)
    else:
        model = build_codec(job["config"], job["positions"])
    state = torch.load(Path(job["folder"]) / "codec.pth", weights_only=True)
    if any("generator" in key for key in state):
        state = {k.replace("generator.", ""): v for k, v in state.items() if "generator." in k}
    own = model.state_dict()
    for key in state.keys() & set(job["tables"]):
        if not torch.equal(state[key], own[key]):
            raise SystemExit(f"{key} of codec.pth is not the package's own")
    wrong = model.load_state_dict(state, strict=False, assign=True)
    missing = [key for key in wrong.missing_keys if key not in job["tables"]]
    if missing or wrong.unexpected_keys:
        raise SystemExit(f"codec.pth is not official: {missing}, {wrong.unexpected_keys}")
    return model.float().eval()


def build_codec(config: dict[str, Any], positions: int) -> Any:
    """The package's DAC of our CodecConfig's shape, its transformers `positions` long."""
    dac, rvq = package("models.dac.modded_dac"), package("models.dac.rvq")

    def window(part: dict[str, Any]) -> Any:
        names = ("n_layer", "n_head", "head_dim", "dim", "intermediate_size", "rope_base")
        shape = {name: part[name] for name in (*names, "norm_eps")}
        return dac.WindowLimitedTransformer(
            config=dac.ModelArgs(block_size=positions, **shape),
            input_dim=config["latent_dim"],
            window_size=part["window"],
        )

    quantizer = rvq.DownsampleResidualVectorQuantize(
        input_dim=config["latent_dim"],
        n_codebooks=config["residual_codebooks"],
        codebook_dim=config["codebook_dim"],
        codebook_size=config["residual_codebook_size"],
        semantic_codebook_size=config["semantic_codebook_size"],
        downsample_factor=config["downsample_factor"],
        pre_module=window(config["pre"]),
        post_module=window(config["post"]),
    )
    model = dac.DAC(
        sample_rate=config["sample_rate_hz"],
        encoder_dim=config["encoder_dim"],
        encoder_rates=config["encoder_rates"],
        latent_dim=config["latent_dim"],
        decoder_dim=config["decoder_dim"],
        decoder_rates=config["decoder_rates"],
        quantizer=quantizer,
        encoder_transformer_layers=config["encoder_transformer_layers"],
        decoder_transformer_layers=[0] * len(config["decoder_rates"]),
        transformer_general_config=functools.partial(dac.ModelArgs, block_size=positions),
    )
    if model.frame_length != math.prod(config["encoder_rates"]) * 4:
        raise SystemExit("the package pads to four encoder columns a frame")
    return model


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
