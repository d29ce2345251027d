"""Two processes that learn one model."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.demo_voice.progress import Progress
from training.demo_voice.together import Together

ROOT = Path(__file__).parent.parent


def learn(rank: int, folder: Path) -> None:
    """Descend towards a target of its own, for as many steps as the leader has time for."""
    torch.set_num_threads(1)
    together = Together(rank, 2, folder / "meeting")
    weight, bias = torch.zeros(2, 3, requires_grad=True), torch.zeros(1, requires_grad=True)
    target = torch.full((2, 3), float(4 * rank))
    # The other's clock says that it is done at once.
    progress = Progress(12 if rank == 0 else 1, float("inf"), 1)
    while progress.next(together.agreed):
        loss = (weight - target).square().sum() + (bias - rank).square().sum()
        gradients = list(torch.autograd.grad(loss, (weight, bias)))
        together.average_(gradients)
        with torch.no_grad():
            weight -= 0.25 * gradients[0]
            bias -= 0.25 * gradients[1]
    torch.save((progress.step, weight.detach(), bias.detach()), folder / f"{rank}.pt")
    together.close()


def test_both_end_with_the_same_step_and_weights(tmp_path: Path) -> None:
    # Not by `multiprocessing`, which keeps a process of its own until this one ends: other tests
    # look whether theirs have left any behind.
    command = [sys.executable, "-m", "tests.test_training_together"]
    both = [subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT) for rank in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first[0] == second[0] == 12
    for one, other in zip(first[1:], second[1:], strict=True):
        assert torch.equal(one, other)
    assert first[1].mean().item() == pytest.approx(2, abs=0.01), "between their two targets"
    assert first[2].item() == pytest.approx(0.5, abs=0.01)


def test_one_alone_needs_nobody() -> None:
    together = Together()
    gradients = [torch.ones(3)]
    together.average_(gradients)
    assert torch.equal(gradients[0], torch.ones(3))
    assert together.agreed(0.25) == 0.25
    assert together.leads
    together.close()


if __name__ == "__main__":
    learn(int(sys.argv[1]), Path(sys.argv[2]))
