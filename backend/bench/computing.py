"""What a probe measures: frames of the engine alone, sound of the codec alone, memory read."""

import os

import torch
from torch import Tensor

from backend.bench.messages import (
    TEXT,
    DecodePieces,
    Hello,
    MakeFrames,
    Question,
    ReadMemory,
    Took,
)
from backend.bench.stopwatch import Stopwatch
from backend.codec.pieces import Piece
from backend.core import MIB, SamplingParams
from backend.engine.prompt import Prompt, Reference
from backend.engine.sequence import Sequence
from backend.worker.loaded import Loaded, load
from backend.worker.messages import WorkerConfig

_WARM_STEPS = 3
_LONGEST_FRAMES = 4096
"""Of a row that is measured; it has made far less when the clock stops."""
_NOISE = 0.1
"""How large the keys and values are that stand for a voice."""
_NOISE_POSITIONS = 64
"""Of them that differ."""
_ANY_BYTES = 1 << 42
"""A limit of keys and values that keeps whatever stands for a voice."""
_READS = 4


class Computing:
    """Everything a worker holds, measured part by part."""

    def __init__(self, config: WorkerConfig) -> None:
        self._loaded: Loaded = load(config)
        self._engine, self._stage = self._loaded.engine, self._loaded.stage
        self._engine.set_cache_bytes(_ANY_BYTES)
        self._seed = 0

    @property
    def hello(self) -> Hello:
        """What was loaded."""
        info = self._loaded.info
        return Hello(
            engine=info.engine,
            way=self._engine.runner.way.name,
            precision=info.precision,
            quantization=info.quantization,
            codec=info.codec_precision,
            threads=info.num_threads,
            torch=info.torch_version,
            weight_bytes_per_frame=self._engine.runner.weight_bytes_per_step,
            load_s=info.load_s,
            pid=os.getpid(),
        )

    def answer(self, question: Question) -> Took:
        """Do what is asked."""
        match question:
            case MakeFrames():
                return self._make_frames(question)
            case DecodePieces():
                return self._decode(question)
            case ReadMemory():
                return self._read_memory(question)

    # -- the engine --------------------------------------------------------------------------------

    def _make_frames(self, asked: MakeFrames) -> Took:
        engine, watch, frames, warm = self._engine, Stopwatch(), 0, _WARM_STEPS
        prompt = self._prompt(asked.context)
        rows = [self._add(prompt) for _ in range(asked.rows)]
        try:
            while watch.wall_s < asked.seconds or not frames:
                # One that has ended is replaced; the step in which another joins does not count.
                rows = [self._add(prompt) if row.finish is not None else row for row in rows]
                if warm or any(row.read_tokens < row.prompt_tokens for row in rows):
                    warm -= not any(row.read_tokens < row.prompt_tokens for row in rows)
                    self._step()
                else:
                    watch.time(self._step)
                    frames += len(rows)
        finally:
            for row in rows:
                engine.abort(row)
            engine.forget_voices()
        return watch.took(frames, engine.runner.way.name)

    def _step(self) -> None:
        for progress in self._engine.step():
            if progress.error is not None:
                raise progress.error
        if self._loaded.place.device.type == "cuda":
            torch.cuda.synchronize(self._loaded.place.device)

    def _add(self, prompt: Prompt) -> Sequence:
        self._seed += 1
        context = self._loaded.checkpoint.config.max_seq_len
        row = Sequence(prompt, SamplingParams(seed=self._seed), _LONGEST_FRAMES, context)
        self._engine.add(row)
        return row

    def _prompt(self, context: int) -> Prompt:
        """A prompt of `context` positions, nearly all of them a voice whose keys and values are
        random and kept already, so that nothing has to read it."""
        checkpoint = self._loaded.checkpoint
        books = checkpoint.codec_config.num_codebooks
        alone = Prompt.build(checkpoint.tokenizer, books, TEXT)
        frames = context - len(alone) - _WARM_STEPS
        if frames < 1:
            return alone
        codes = self._random_codes(frames)
        prompt = Prompt.build(checkpoint.tokenizer, books, TEXT, [Reference("", codes)])
        self._engine.runner.voices.keep(prompt, lambda: self._noise(prompt.voice_tokens))
        return prompt

    def _noise(self, positions: int) -> Tensor:
        """Random keys and values of so many positions, held as those of a voice are.

        They pass through a row of the engine, which is idle.
        """
        model, chance = self._loaded.checkpoint.model, torch.Generator().manual_seed(0)
        slow, weight = model.config.slow, model.embeddings.weight
        cache, times = self._engine.runner.state.cache, -(-positions // _NOISE_POSITIONS)
        cache.open(0, positions)
        cache.extend([0], positions)
        for layer in range(slow.n_layer):
            shape = (2, slow.n_local_heads, _NOISE_POSITIONS, slow.head_dim)
            noise = torch.randn(shape, generator=chance).mul_(_NOISE).to(weight)
            cache.write(layer, 0, *noise.repeat(1, 1, times, 1)[:, :, :positions].unbind())
        held = cache.snapshot(0, positions)
        cache.close(0)
        return held

    # -- the codec ---------------------------------------------------------------------------------

    def _decode(self, asked: DecodePieces) -> Took:
        decoder, watch, frames, key = self._stage.decoder, Stopwatch(), 0, object()
        piece = Piece(list(self._random_codes(asked.frames).t()), asked.frames)

        def decode() -> None:
            decoder.begin([key], [piece]).samples()

        decode()  # the first of a size is slow
        while watch.wall_s < asked.seconds or not frames:
            watch.time(decode)
            frames += asked.frames
        decoder.forget(key)
        return watch.took(frames)

    def _random_codes(self, frames: int) -> Tensor:
        """[N, frames]."""
        codec, chance = self._loaded.checkpoint.codec_config, torch.Generator().manual_seed(frames)
        size = min(codec.semantic_codebook_size, codec.residual_codebook_size)
        return torch.randint(size, (codec.num_codebooks, frames), generator=chance)

    # -- memory ------------------------------------------------------------------------------------

    def _read_memory(self, asked: ReadMemory) -> Took:
        device = self._loaded.place.device
        held = torch.ones(asked.mib * MIB // 4, dtype=torch.float32, device=device)
        found: list[Took] = []
        # Both add and compare while the next bytes come; on some machine one of them may be slow.
        for read in (held.sum, held.amax) * _READS:
            watch = Stopwatch()
            watch.begin()
            float(read())  # which waits for a GPU
            watch.end()
            found.append(watch.took(held.nbytes))
        return max(found, key=lambda took: took.rate)
