"""`python -m training.demo_voice.run`: everything from text to a checkpoint, on one GPU or several.

Processes work side by side: on the first GPU the codec trains as soon as there is speech; on each
other one (or on the only one, or on all where the codec is finished) a teacher speaks its part, and
the transformer learns as soon as the codes are final. What `--work` already holds is not done
again, so a run that was cut short goes on; speech, the one thing too large to carry away, is made
anew.
"""

import argparse
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from backend.model.checkpoint import Checkpoint, save_checkpoint
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from training.demo_voice.progress import save_weights
from training.demo_voice.recipe import Recipe, brief, demo_tokenizer, rehearsal
from training.demo_voice.train_codec import CODEC_FILE, CODES_FILE, START_FILE, train_codec
from training.demo_voice.train_transformer import (
    MODEL_FILE,
    STEP_FILE,
    train_transformer,
)

_STAGES = ("codec", "transformer")


def _stage(name: str, recipe: Recipe, work: Path, device: str, rank: int, count: int) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = name == "codec"
    if device != "cpu":
        torch.cuda.set_device(device)
    if name == "codec":
        train_codec(recipe, work, torch.device(device))
    else:
        train_transformer(recipe, work, torch.device(device), rank, count)


def _beside_codec(names: Sequence[str], devices: Sequence[str]) -> Sequence[str]:
    """The devices on which the teacher speaks and the transformer learns: the first is the codec's
    if that learns too, and there is another."""
    return devices[1:] or devices if "codec" in names else devices


def _run_stages(names: Sequence[str], devices: Sequence[str], recipe: Recipe, work: Path) -> None:
    """Side by side, each in a process of its own, the transformer in several."""
    context = multiprocessing.get_context("spawn")
    learning = _beside_codec(names, devices)
    wanted = [("codec", devices[0], 0, 1)] if "codec" in names else []
    if "transformer" in names:
        wanted += [("transformer", d, rank, len(learning)) for rank, d in enumerate(learning)]
    (work / "meeting").unlink(missing_ok=True)
    stages = [
        context.Process(target=_stage, args=(name, recipe, work, *where)) for name, *where in wanted
    ]
    for stage in stages:
        stage.start()
    for stage in stages:
        stage.join()
    if any(stage.exitcode for stage in stages):
        sys.exit("a stage failed; its log says why")


def assemble(recipe: Recipe, work: Path, folder: Path) -> None:
    """Put the trained parts together into a checkpoint folder, bfloat16."""
    tokenizer = demo_tokenizer()
    model = DualAR(recipe.transformer, tokenizer.semantic_begin_id, tokenizer.im_end_id)
    model.load_state_dict(load_file(work / MODEL_FILE))
    codec = DAC(recipe.codec)
    codec.load_state_dict(load_file(work / CODEC_FILE))
    checkpoint = Checkpoint(recipe.card, recipe.transformer, recipe.codec, tokenizer, model, codec)
    save_checkpoint(folder, checkpoint, torch.bfloat16)
    shutil.copy(work / STEP_FILE, folder / STEP_FILE)


def restore(folder: Path, work: Path) -> None:
    """Lay a cut run's checkpoint where the stages look for their own. Its codes are final."""
    _lay(folder, work, CODES_FILE, CODEC_FILE)
    shutil.copy(folder / STEP_FILE, work / STEP_FILE)


def begin_with(folder: Path, work: Path) -> None:
    """Let every stage start from a finished checkpoint's weights; its codes change."""
    _lay(folder, work, START_FILE)
    (work / STEP_FILE).write_text("0")


def _lay(folder: Path, work: Path, *codec_files: str) -> None:
    for source, target in (*(("codec", name) for name in codec_files), ("model", MODEL_FILE)):
        weights = load_file(folder / f"{source}.safetensors")
        save_weights({k: v.float() for k, v in weights.items()}, work / target)


def _speak(teacher: Path, speech: Path, recipe: Recipe, first: int, devices: Sequence[str]) -> None:
    """Start who makes the speech that is not there yet, a part on each device."""
    for part, device in enumerate(devices):
        folder = speech / str(part)
        if (folder / "DONE").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        subprocess.Popen(
            [sys.executable, "-m", "training.demo_voice.speech", "--teacher", teacher,
             "--out", folder, "--hours", str(recipe.hours / len(devices)), "--device", device,
             "--first", str(first), "--part", str(part), str(len(devices)),
             "--group", str(recipe.shards_at_once)],
        )  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="what teacher_files.py made")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--hours", type=float, help="of speech, instead of the recipe's")
    parser.add_argument("--rehearse", action="store_true", help="tiny and short, for a CPU")
    parser.add_argument(
        "--seconds", type=float, nargs=4,
        metavar=("CODEC", "DECODER", "ENCODE", "TRANSFORMER"),
        help="end each stage by then, its schedule shrunk to fit",
    )  # fmt: skip
    parser.add_argument("--first", type=int, default=0, help="shard of speech to begin at")
    parser.add_argument("--stages", nargs="*", choices=_STAGES, default=list(_STAGES),
                        help="without any, what there is becomes a checkpoint")  # fmt: skip
    parser.add_argument("--resume", type=Path, help="checkpoint folder that a cut run wrote")
    parser.add_argument("--processes", type=int, default=1, help="where there is no GPU")
    parser.add_argument("--begin-with", type=Path, help="finished checkpoint to start from")
    arguments = parser.parse_args()
    recipe = rehearsal() if arguments.rehearse else Recipe()
    if arguments.hours:
        recipe = replace(recipe, hours=arguments.hours)
    if arguments.seconds:
        recipe = brief(recipe, *arguments.seconds)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.resume:
        restore(arguments.resume, work)
    if arguments.begin_with and not (work / STEP_FILE).exists():
        begin_with(arguments.begin_with, work)
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    devices = gpus or ["cpu"] * arguments.processes
    if arguments.stages:
        speaking = _beside_codec(arguments.stages, devices)
        _speak(arguments.teacher, work / "speech", recipe, arguments.first, speaking)
    _run_stages(arguments.stages, devices, recipe, work)
    assemble(recipe, work, arguments.out)
    print(f"checkpoint in {arguments.out}")


if __name__ == "__main__":
    main()
