"""`python -m training.demo_voice.run`: everything from text to a checkpoint, on one GPU or two.

Three processes work side by side: the teacher speaks on the last GPU, the codec trains on the first
as soon as there is speech, and the transformer on the last as soon as the codes are final.
What `--work` already holds is not done again, so a run that was cut short goes on; speech, the one
thing too large to carry away, is made anew.
"""

import argparse
import multiprocessing
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from backend.model.checkpoint import Checkpoint, save_checkpoint
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from training.demo_voice.progress import save_weights
from training.demo_voice.recipe import Recipe, brief, demo_tokenizer, rehearsal
from training.demo_voice.train_codec import CODEC_FILE, CODES_FILE, train_codec
from training.demo_voice.train_transformer import (
    MODEL_FILE,
    STEP_FILE,
    train_transformer,
)

_STAGES = {"codec": train_codec, "transformer": train_transformer}


def _stage(name: str, recipe: Recipe, work: Path, device: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = name == "codec"
    if device != "cpu":
        torch.cuda.set_device(device)
    _STAGES[name](recipe, work, torch.device(device))


def _run_stages(devices: dict[str, str], recipe: Recipe, work: Path) -> None:
    """Each stage in a process of its own, side by side."""
    context = multiprocessing.get_context("spawn")
    stages = [
        context.Process(target=_stage, args=(name, recipe, work, device))
        for name, device in devices.items()
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
    """Lay an earlier run's checkpoint where the stages look for their own. Its codes are final."""
    for source, target in (("codec", CODES_FILE), ("codec", CODEC_FILE), ("model", MODEL_FILE)):
        weights = load_file(folder / f"{source}.safetensors")
        save_weights({k: v.float() for k, v in weights.items()}, work / target)
    shutil.copy(folder / STEP_FILE, work / STEP_FILE)


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
    parser.add_argument("--stages", nargs="*", choices=_STAGES, default=list(_STAGES),
                        help="without any, what there is becomes a checkpoint")  # fmt: skip
    parser.add_argument("--resume", type=Path, help="checkpoint folder an earlier run wrote")
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
    gpus = torch.cuda.device_count()
    first, last = ("cuda:0", f"cuda:{gpus - 1}") if gpus else ("cpu", "cpu")
    speech = work / "speech"
    if arguments.stages and not (speech / "DONE").exists():
        shutil.rmtree(speech, ignore_errors=True)
        subprocess.Popen(
            [sys.executable, "-m", "training.demo_voice.speech", "--teacher", arguments.teacher,
             "--out", speech, "--hours", str(recipe.hours), "--device", last],
        )  # fmt: skip
    devices = {"codec": first, "transformer": last}
    _run_stages({name: devices[name] for name in arguments.stages}, recipe, work)
    assemble(recipe, work, arguments.out)
    print(f"checkpoint in {arguments.out}")


if __name__ == "__main__":
    main()
