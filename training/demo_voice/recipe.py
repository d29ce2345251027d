"""Every number that decides what the demo voice becomes, in one place."""

from dataclasses import dataclass, field, replace

from backend.model.config import (
    CheckpointInfo,
    CodecConfig,
    DualARConfig,
    TransformerConfig,
    WindowConfig,
)
from backend.model.tokenizer import IM_END, INTERLEAVE, SPEAKER, Tokenizer

SAMPLE_RATE_HZ = 24_000
CODEBOOK_SIZE = 1024
TEXT_TOKENS = 256
"""The text tokens are the 256 bytes: 17 million weights leave none for a vocabulary."""
PHONES = 256
"""The teacher's phonemes are numbered below this; 0 is silence."""


def demo_tokenizer() -> Tokenizer:
    """Bytes, three control tokens, and the semantic codes."""
    semantic = [f"<|semantic:{code}|>" for code in range(CODEBOOK_SIZE)]
    ranks = {bytes([byte]): byte for byte in range(TEXT_TOKENS)}
    return Tokenizer(ranks, [IM_END, INTERLEAVE, SPEAKER, *semantic])


def _codec() -> CodecConfig:
    window = WindowConfig(
        dim=192, n_layer=2, n_head=3, head_dim=64, intermediate_size=512, window=16
    )
    return CodecConfig(
        sample_rate_hz=SAMPLE_RATE_HZ,
        encoder_dim=16,
        encoder_rates=(2, 4, 4, 8),
        encoder_transformer_layers=(0, 0, 0, 0),
        latent_dim=192,
        decoder_dim=256,
        decoder_rates=(8, 4, 4, 2),
        semantic_codebook_size=CODEBOOK_SIZE,
        residual_codebooks=7,
        residual_codebook_size=CODEBOOK_SIZE,
        pre=window,
        post=window,
    )


def _transformer() -> DualARConfig:
    return DualARConfig(
        slow=TransformerConfig(
            dim=256,
            n_layer=10,
            n_head=4,
            n_local_heads=2,
            head_dim=64,
            intermediate_size=704,
        ),
        fast=TransformerConfig(
            dim=192,
            n_layer=2,
            n_head=3,
            n_local_heads=1,
            head_dim=64,
            intermediate_size=512,
        ),
        vocab_size=TEXT_TOKENS + 3 + CODEBOOK_SIZE,
        codebook_size=CODEBOOK_SIZE,
        num_codebooks=8,
        max_seq_len=2048,
        scale_codebook_embeddings=True,
    )


@dataclass(frozen=True)
class CodecTraining:
    """Two stages: everything together without a critic, and the decoder alone, with one but for
    the end.

    After the first stage the codes no longer change, so the transformer can start.
    """

    steps: int = 8000
    decoder_steps: int = 7000
    seconds: float = float("inf")
    """Wall clock the first stage may take; the schedule shrinks to fit."""
    decoder_seconds: float = float("inf")
    batch: int = 64
    crop_frames: int = 40
    critic_frames: int = 20
    polish: float = 0.12
    """Share of the decoder's steps, the last ones, that go without the critic."""
    default_share: float = 0.5
    """Share of the default speaker in the speech of those."""
    decoder_average: float = 0.99
    """Decay of the running average of the decoder's weights, which is what ships."""
    phones: float = 2.0
    """Weight of telling, from the first code book alone, which phoneme is spoken."""
    pitch: float = 1.0
    """Weight of telling its pitch from the first three."""
    residue: float = 4.0
    """Weight of what the books leave over of what they are to say, on average."""
    colour: float = 10.0
    """Weight of each band's mean and deviation over a crop."""
    fitted_frames: int = 40_000
    """Of speech, that an earlier codec's books are fitted to."""
    log_steps: int = 100
    peak_lr: float = 8e-4
    decoder_lr: float = 3e-4
    polish_lr: float = 1e-4
    warmup_steps: int = 150
    first_hours: float = 3.0
    """Speech that must be there before the first step."""
    hours: float = 80.0
    """Speech the codec is trained on at most."""


@dataclass(frozen=True)
class TransformerTraining:
    """Rows of one speaker's sentences under plain causal attention."""

    steps: int = 60_000
    seconds: float = float("inf")
    rows: int = 96
    row_tokens: int = 768
    fast_frames: int = 20_480
    """Frames a step whose code books are trained."""
    peak_lr: float = 2e-3
    warmup_steps: int = 300
    weight_decay: float = 0.05
    dropout: float = 0.1
    """Of what each slow layer adds, while it learns."""
    wrong_codes: float = 0.04
    """Share of frames whose codes are another frame's in what is read, while what is to be written
    stays right: speech must go on after a slip."""
    phones: float = 0.3
    """Weight of telling which phoneme comes next."""
    pitch: float = 0.3
    """Weight of telling at which pitch."""
    average: float = 0.999
    """Decay of the running average of the weights, which is what ships."""
    heldout_sentences: int = 800
    encode_seconds: float = float("inf")
    """Wall clock the encoding may take; what is not encoded by then is not used."""
    encode_samples: int = 1 << 25
    """Samples of speech encoded at once."""
    log_steps: int = 200
    """After so many the held-out sentences are asked, too."""


@dataclass(frozen=True)
class FollowTraining:
    """In the end: the transformer learns to follow a speaker more than it does (`follow.py`)."""

    strength: float = 2.5
    """How much more. Read twice for each frame, the voice of 27 November told 87 of 100 unseen
    speakers apart with 2.5, 78 with 1.7, 82 with 4, and 70 as it is."""
    steps: int = 1_000_000
    seconds: float = 2700.0
    rows: int = 8
    rows_a_round: int = 256
    """After so many all sentences are said anew."""
    at_once: int = 16
    """Sentences that are said side by side."""
    sentences: int = 3
    """In a row."""
    characters: int = 140
    """In a sentence at most."""
    plain: float = 0.2
    """Share of rows without a recording."""
    strange: float = 0.35
    """Share of recordings that were made strange before they were encoded."""
    without_transcript: float = 0.2
    kept: float = 0.5
    """Share of the weights as they were in those that are written in the end: half of the way costs
    fewer words."""
    peak_lr: float = 1e-4
    warmup_steps: int = 40
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """The whole of it."""

    codec: CodecConfig = field(default_factory=_codec)
    transformer: DualARConfig = field(default_factory=_transformer)
    codec_training: CodecTraining = field(default_factory=CodecTraining)
    transformer_training: TransformerTraining = field(default_factory=TransformerTraining)
    hours: float = 150.0
    shards_at_once: int = 64
    """That the teacher reads together."""
    compile: bool = True
    seed: int = 0
    card: CheckpointInfo = field(
        default_factory=lambda: CheckpointInfo(
            name="shoal-demo",
            max_segment_characters=200,
            max_reference_s=15.0,
            languages=("en",),
            licence="Apache-2.0",
            description="Synthetic English voices, trained from speech that Kokoro-82M made.",
            has_default_voice=True,
        )
    )


def rehearsal() -> Recipe:
    """The same path in a minute on a CPU: proves the code, not the voice."""
    small = Recipe()
    return replace(
        small,
        codec_training=CodecTraining(
            steps=6,
            decoder_steps=3,
            batch=2,
            crop_frames=16,
            critic_frames=8,
            first_hours=0.005,
            fitted_frames=2_000,
            log_steps=2,
        ),
        transformer_training=TransformerTraining(
            steps=8,
            rows=2,
            row_tokens=512,
            fast_frames=64,
            heldout_sentences=8,
            warmup_steps=2,
            encode_samples=1 << 18,
            log_steps=4,
        ),
        hours=0.04,
        shards_at_once=1,
        compile=False,
    )


def on_gpu() -> FollowTraining:
    """As much as one takes in a few minutes."""
    return FollowTraining(
        seconds=240.0, rows=96, rows_a_round=3072, at_once=192, peak_lr=4e-4, warmup_steps=20
    )


def brief(
    recipe: Recipe,
    codec_s: float,
    decoder_s: float,
    encode_s: float,
    transformer_s: float,
) -> Recipe:
    """`recipe` cut to fit the given seconds a stage."""
    return replace(
        recipe,
        codec_training=replace(
            recipe.codec_training,
            seconds=codec_s,
            decoder_seconds=decoder_s,
        ),
        transformer_training=replace(
            recipe.transformer_training, encode_seconds=encode_s, seconds=transformer_s
        ),
    )
