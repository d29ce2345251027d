"""The published package speaks one long text and stands still between two frames, until it is
asked for more: its frames alternate with ours, and its prompt, which takes seconds, is read once.
"""

import os
from pathlib import Path

import torch

from backend.bench.messages import TEXT, Channel, DecodePieces, Hello, MakeFrames, Took, Trouble
from backend.bench.stopwatch import Stopwatch
from backend.core import SAMPLING_LIMITS, SamplingParams
from backend.fish_worker.loaded_package import Loaded, load
from backend.worker.messages import WorkerConfig

_MOST_TOKENS = 1000
"""Of the text, which is spoken again then."""


class _Over(Exception):
    """Nothing more will be asked."""


class _Speaking:
    """Answers in the midst of speaking, since the package cannot be stopped."""

    def __init__(self, loaded: Loaded, channel: Channel) -> None:
        self._loaded, self._channel = loaded, channel
        self._asked: MakeFrames | None = None
        self._watch, self._frames = Stopwatch(), 0

    def speak(self) -> None:
        """Speak it once; `_Over` where nothing more is asked."""
        # The likeliest only: random weights give a little to each of many tokens that are no
        # speech, which the package cannot go on from.
        sampling = SamplingParams(seed=0, top_p=SAMPLING_LIMITS["top_p"][0])
        self._loaded.voice.generate(TEXT, (), sampling, _MOST_TOKENS, self._between_frames)
        if self._watch.is_running:
            self._watch.end()  # its last frame does not count: its sound is made with it

    def _between_frames(self) -> None:
        """Count the frame that was made, and begin the next one once it is asked for."""
        if self._watch.is_running:
            self._watch.end()
            self._frames += 1
        if self._asked and self._frames and self._watch.wall_s >= self._asked.seconds:
            self._asked = None
            self._channel.tell(self._watch.took(self._frames, "eager"))
        while self._asked is None:
            self._take_question()
        self._watch.begin()

    def _take_question(self) -> None:
        match self._channel.asked():
            case None:
                raise _Over
            case MakeFrames() as asked:
                self._asked, self._watch, self._frames = asked, Stopwatch(), 0
            case DecodePieces(frames=frames, seconds=seconds):
                self._channel.tell(self._decode(frames, seconds))
            case other:
                self._channel.tell(Trouble(f"the published package is not asked for {other}"))

    def _decode(self, frames: int, seconds: float) -> Took:
        """It cannot decode piece by piece: each is a whole utterance to it."""
        codes = torch.zeros((self._loaded.shape.codec.num_codebooks, frames), dtype=torch.int64)
        watch, count = Stopwatch(), 0
        self._loaded.voice.decode(codes)  # the first of a size is slow
        while watch.wall_s < seconds or not count:
            watch.time(lambda: self._loaded.voice.decode(codes))
            count += frames
        return watch.took(count)


def run(config: WorkerConfig, converted: Path, channel: Channel) -> None:
    """Load what `config` names, and answer until stdin ends; `BadCheckpoint`, `BadSetting`."""
    loaded = load(config, converted)
    info = loaded.info
    hello = Hello(
        engine=info.engine,
        way=info.way,
        precision=info.precision,
        quantization=info.quantization,
        codec=info.codec_precision,
        threads=info.num_threads,
        torch=info.torch_version,
        weight_bytes_per_frame=loaded.weight_bytes_per_frame,
        load_s=info.load_s,
        pid=os.getpid(),
    )
    channel.tell(hello)
    speaking = _Speaking(loaded, channel)
    try:
        while True:
            speaking.speak()
    except _Over:
        pass
