"""What the published package logs of itself, in its own words."""

import sys
import threading
from collections.abc import Iterator

import pytest
from loguru import logger

from backend.monitoring.fish_log import FishFigures, FishLog

LINES = (
    "Encoded text: Once upon a time",
    "Generated 1214 tokens in 268.25 seconds, 4.53 tokens/sec",
    "Bandwidth achieved: 3.89 GB/s",
    "GPU Memory used: 7.80 GB",
    "VQ features: torch.Size([10, 1213])",
)
FIGURES = FishFigures(
    generated_tokens=1214,
    generation_time_s=268.25,
    tokens_per_s=4.53,
    bandwidth_gb_s=3.89,
    gpu_memory_gb=7.80,
    vq_features_shape=(10, 1213),
)


def say_as(name: str, *lines: str) -> None:
    """Log as a module called `name` would."""
    scope = {"__name__": name, "logger": logger, "lines": lines}
    exec("for line in lines: logger.info(line)", scope)


@pytest.fixture
def listening() -> Iterator[FishLog]:
    log = FishLog()
    sink = log.listen()
    yield log
    logger.remove(sink)


def test_figures_of_one_request_are_taken_once(listening: FishLog) -> None:
    say_as("fish_speech.models.text2semantic.inference", *LINES[:4])
    say_as("fish_speech.inference_engine.vq_manager", LINES[4])
    assert listening.take() == FIGURES
    assert listening.take() == FishFigures()


def test_without_a_gpu_it_says_nothing_of_one(listening: FishLog) -> None:
    say_as("fish_speech.models.text2semantic.inference", *LINES[1:3])
    figures = listening.take()
    assert figures.gpu_memory_gb is None
    assert figures.tokens_per_s == 4.53


def test_only_the_packages_lines_count(listening: FishLog) -> None:
    say_as("backend.worker.main", *LINES)
    assert listening.take() == FishFigures()


def test_text_of_users_cannot_pass_for_figures(listening: FishLog) -> None:
    module = "fish_speech.models.text2semantic.inference"
    say_as(module, *(f"Encoded text: {line}" for line in LINES))
    say_as(module, f"Encoded text: x\n{LINES[1]}", f"{LINES[2]}\n", "VQ features: torch.Size([])")
    say_as("fish_speech.inference_engine.vq_manager", "Encoded prompt: torch.Size([10, 215])")
    assert listening.take() == FishFigures()


def test_pieces_of_one_request_add_up() -> None:
    log = FishLog()
    for line in (
        "Generated 100 tokens in 10.00 seconds, 10.00 tokens/sec",
        "Bandwidth achieved: 4.00 GB/s",
        "GPU Memory used: 6.50 GB",
        "VQ features: torch.Size([10, 99])",
        "Generated 50 tokens in 30.00 seconds, 1.67 tokens/sec",
        "Bandwidth achieved: 2.00 GB/s",
        "GPU Memory used: 6.20 GB",
        "VQ features: torch.Size([10, 49])",
    ):
        log.read(line)
    assert log.take() == FishFigures(
        generated_tokens=150,
        generation_time_s=40.0,
        tokens_per_s=3.75,
        bandwidth_gb_s=2.5,
        gpu_memory_gb=6.5,
        vq_features_shape=(10, 148),
    )


def test_a_plain_sink_is_enough() -> None:
    log = FishLog()
    sink = logger.add(log.sink, format="{message}")
    try:
        logger.info(LINES[1])
    finally:
        logger.remove(sink)
    assert log.take().generated_tokens == 1214
    log.sink(LINES[1] + "\n")
    assert log.take().generated_tokens == 1214


def test_threads_may_log_while_figures_are_taken() -> None:
    log = FishLog()
    one = "Generated 1 tokens in 1.00 seconds, 1.00 tokens/sec"

    def log_much() -> None:
        for _ in range(500):
            log.read(one)

    threads = [threading.Thread(target=log_much) for _ in range(4)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        taken = 0
        while any(thread.is_alive() for thread in threads):
            taken += log.take().generated_tokens or 0
        taken += log.take().generated_tokens or 0
    finally:
        sys.setswitchinterval(interval_s)
    assert taken == 2000
