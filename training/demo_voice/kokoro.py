"""Kokoro-82M in plain PyTorch: many sentences at once, each as it would be alone.

Three stages, so that a caller may sort sentences by length in between: `durations` (what is said,
how long each phoneme lasts), `curves` (pitch and energy), `sound` (the waveform). Sequences are
[batch, time, channels]; one frame is 600 samples at 24,000 Hz, one step of a curve 300.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from training.demo_voice import teacher_kernels, teacher_plain

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 600
STYLE_SIZE = 256
_VOICED_HZ = 10.0
_HARMONICS = 9
_FFT, _HOP = 20, 5
_GENERATOR = "decoder.generator."
_STAGES = ((10, 7), (6, 11))
"""For each of the generator's stages: times upsampled, kernel of the noise's block."""
_LSTMS = (
    "text_encoder.lstm", "predictor.lstm", "predictor.shared", "predictor.text_encoder.lstms.0",
    "predictor.text_encoder.lstms.2", "predictor.text_encoder.lstms.4",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """How the sound is computed; the three differ in speed, and hardly in what is heard."""

    dtype: torch.dtype
    channels_last: bool
    kernels: bool


WAYS = {
    "plain": Way(torch.float32, channels_last=False, kernels=False),
    "half": Way(torch.bfloat16, channels_last=False, kernels=False),
    "last": Way(torch.bfloat16, channels_last=True, kernels=False),
    "fused": Way(torch.bfloat16, channels_last=True, kernels=True),
}


def valid(lengths: Tensor, time: int) -> Tensor:
    """True up to each length, [batch, time]."""
    return torch.arange(time, device=lengths.device)[None] < lengths[:, None]


def _widened(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Channels that the hardware cannot split into eights are filled up with zeros."""
    wide = dict(weights)
    for block in ("encode", "decode.0", "decode.1", "decode.2", "decode.3"):
        name = f"decoder.{block}"
        channels = weights[f"{name}.conv1.weight"].shape[1]
        extra = -channels % 8
        for conv in ("conv1", "conv1x1"):
            wide[f"{name}.{conv}.weight"] = F.pad(
                weights[f"{name}.{conv}.weight"], (0, 0, 0, extra)
            )
        for part, pads in (("weight", (0, 0, 0, extra)), ("bias", (0, extra))):
            halves = weights[f"{name}.norm1.fc.{part}"].chunk(2)
            wide[f"{name}.norm1.fc.{part}"] = torch.cat([F.pad(half, pads) for half in halves])
        if f"{name}.pool.weight" in weights:
            wide[f"{name}.pool.weight"] = F.pad(
                weights[f"{name}.pool.weight"], (0, 0, 0, 0, 0, extra)
            )
            wide[f"{name}.pool.bias"] = F.pad(weights[f"{name}.pool.bias"], (0, extra))
    for conv in ("noise_convs.0", "noise_convs.1"):
        name = f"{_GENERATOR}{conv}.weight"
        wide[name] = F.pad(weights[name], (0, 0, 0, 2))
    wide[f"{_GENERATOR}conv_post.weight"] = F.pad(
        weights[f"{_GENERATOR}conv_post.weight"], (0, 0, 0, 0, 0, 2)
    )
    wide[f"{_GENERATOR}conv_post.bias"] = F.pad(weights[f"{_GENERATOR}conv_post.bias"], (0, 2))
    return wide


class Kokoro:
    """The model on one device; every method expects `torch.inference_mode`."""

    def __init__(self, weights: dict[str, Tensor], device: torch.device, way: Way) -> None:
        self.device, self._way = device, way
        self._between = teacher_kernels if way.kernels else teacher_plain
        self._weights = {name: w.to(device) for name, w in _widened(weights).items()}
        for name, weight in self._weights.items():
            if name.startswith("predictor.") or weight.dim() != 3 or "alpha" in name:
                continue
            if name.startswith("decoder.") and "F0_conv" not in name and "N_conv" not in name:
                self._weights[name] = self._laid_out(weight)
        self._lstms = {name: self._lstm(name, weights) for name in _LSTMS}
        self._window = torch.hann_window(_FFT, device=device)

    def _laid_out(self, weight: Tensor) -> Tensor:
        weight = weight.to(self._way.dtype)
        if not self._way.channels_last:
            return weight
        return weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)

    def _lstm(self, name: str, weights: dict[str, Tensor]) -> nn.LSTM:
        lstm = nn.LSTM(
            weights[f"{name}.weight_ih_l0"].shape[1], 256, batch_first=True, bidirectional=True
        )
        lstm.load_state_dict(
            {key[len(name) + 1 :]: w for key, w in weights.items() if key.startswith(f"{name}.")}
        )
        return lstm.to(self.device).eval().requires_grad_(False)

    # Pieces

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def _recur(self, name: str, x: Tensor, lengths: Tensor) -> Tensor:
        """`lengths` are on the CPU, longest first."""
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        return pad_packed_sequence(
            self._lstms[name](packed)[0], batch_first=True, total_length=x.shape[1]
        )[0]

    def _convolve(
        self, name: str, x: Tensor, bias: bool = False, dilation: int = 1, stride: int = 1,
        padding: int | None = None,
    ) -> Tensor:  # fmt: skip
        """[batch, time, in] to [batch, time, out]; without `padding` as long as before."""
        weight = self._weights[f"{name}.weight"]
        if padding is None:
            padding = (weight.shape[-1] - 1) * dilation // 2
        shift = self._weights[f"{name}.bias"].to(weight.dtype) if bias else None
        swapped = x.transpose(1, 2)
        if weight.dim() == 4:
            return F.conv2d(
                swapped.unsqueeze(2), weight, shift, (1, stride), (0, padding), (1, dilation)
            ).squeeze(2).transpose(1, 2).contiguous()  # fmt: skip
        made = F.conv1d(swapped, weight, shift, stride, padding, dilation)
        return made.transpose(1, 2).contiguous()

    def _expand(self, name: str, x: Tensor, times: int) -> Tensor:
        """A transposed convolution whose kernel is two strides long."""
        weight = self._weights[f"{name}.weight"]
        shift = self._weights[f"{name}.bias"].to(weight.dtype)
        swapped = x.transpose(1, 2)
        if weight.dim() == 4:
            return F.conv_transpose2d(
                swapped.unsqueeze(2), weight, shift, (1, times), (0, times // 2)
            ).squeeze(2).transpose(1, 2).contiguous()  # fmt: skip
        made = F.conv_transpose1d(swapped, weight, shift, times, times // 2)
        return made.transpose(1, 2).contiguous()

    def _normalizer(
        self, name: str, style: Tensor, sums: Tensor, frames: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What adaptive instance normalisation multiplies by and adds, [batch, channels] each."""
        gain, bias = self._linear(f"{name}.fc", style).chunk(2, 1)
        mean, square = (sums / frames[:, None, None]).unbind(1)
        scale = (1 + gain) * torch.rsqrt((square - mean * mean).clamp_min(0) + 1e-5)
        return scale, bias - mean * scale

    def _pool(self, name: str, x: Tensor) -> Tensor:
        """Twice as long: a depthwise transposed convolution of three taps."""
        taps = self._weights[f"{name}.weight"].reshape(-1, 3).to(x.dtype)
        bias = self._weights[f"{name}.bias"].to(x.dtype)
        after = F.pad(x[:, 1:], (0, 0, 0, 1))
        odd = x * taps[:, 2] + after * taps[:, 0]
        return torch.stack([x * taps[:, 1], odd], 2).flatten(1, 2) + bias

    def _block(
        self, name: str, x: Tensor, style: Tensor, frames: Tensor, double: bool = False
    ) -> Tensor:
        """A residual block of the predictor or the decoder's front."""
        between = self._between
        scale, shift = self._normalizer(f"{name}.norm1", style, between.sums(x, frames), frames)
        h = between.activate(x, scale, shift, None, frames)
        around = x
        if double:
            h, frames = self._pool(f"{name}.pool", h), frames * 2
            h = h * valid(frames, h.shape[1])[:, :, None]
            around = x.repeat_interleave(2, 1)
        # The first convolution's bias would not outlive the normalisation that follows.
        h = self._convolve(f"{name}.conv1", h)
        scale, shift = self._normalizer(f"{name}.norm2", style, between.sums(h, frames), frames)
        h = between.activate(h, scale, shift, None, frames)
        h = self._convolve(f"{name}.conv2", h)
        if f"{name}.conv1x1.weight" in self._weights:
            around = self._convolve(f"{name}.conv1x1", around)
        bias = self._weights[f"{name}.conv2.bias"]
        made: Tensor = between.add(h, around, bias, frames)[0] * math.sqrt(0.5)
        return made

    def _snake_block(self, name: str, x: Tensor, style: Tensor, frames: Tensor) -> Tensor:
        """A residual block of the generator."""
        between = self._between
        sums = between.sums(x, frames)
        for layer, dilation in enumerate((1, 3, 5)):
            scale, shift = self._normalizer(f"{name}.adain1.{layer}", style, sums, frames)
            alpha = self._weights[f"{name}.alpha1.{layer}"].reshape(-1)
            h = between.activate(x, scale, shift, alpha, frames)
            h = self._convolve(f"{name}.convs1.{layer}", h, dilation=dilation)
            sums = between.sums(h, frames)
            scale, shift = self._normalizer(f"{name}.adain2.{layer}", style, sums, frames)
            alpha = self._weights[f"{name}.alpha2.{layer}"].reshape(-1)
            h = between.activate(h, scale, shift, alpha, frames)
            h = self._convolve(f"{name}.convs2.{layer}", h)
            x, sums = between.add(h, x, self._weights[f"{name}.convs2.{layer}.bias"], frames)
        return x

    # Stages

    def durations(
        self, ids: Tensor, lengths: Tensor, styles: Tensor, speed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is said and for how long.

        `ids` [batch, time] with a 0 at both ends of each sentence, `lengths` of them on the CPU,
        longest first, `styles` [batch, 256], `speed` [batch]. Gives the states that the curves
        follow [batch, time, 640], those of the sound [batch, time, 512], and frames [batch, time].
        """
        here = valid(lengths.to(self.device), ids.shape[1])
        style = styles[:, 128:]
        spread = style[:, None].expand(-1, ids.shape[1], -1)
        h = torch.cat([self._linear("bert_encoder", self._bert(ids, here)), spread], 2)
        h = h * here[:, :, None]
        for layer in (0, 2, 4):
            h = self._recur(f"predictor.text_encoder.lstms.{layer}", h, lengths)
            name = f"predictor.text_encoder.lstms.{layer + 1}.fc"
            gain, bias = self._linear(name, style).chunk(2, 1)
            h = (1 + gain[:, None]) * F.layer_norm(h, (512,)) + bias[:, None]
            h = torch.cat([h, spread], 2) * here[:, :, None]
        lasting = self._recur("predictor.lstm", h, lengths)
        lasting = self._linear("predictor.duration_proj.linear_layer", lasting).sigmoid().sum(2)
        frames = torch.round(lasting / speed[:, None]).clamp(min=1).long() * here
        return h, self._text(ids, lengths, here), frames

    def _bert(self, ids: Tensor, here: Tensor) -> Tensor:
        batch, time = ids.shape
        name = "bert.embeddings."
        h = (
            self._weights[f"{name}word_embeddings.weight"][ids]
            + self._weights[f"{name}position_embeddings.weight"][:time]
            + self._weights[f"{name}token_type_embeddings.weight"][0]
        )
        h = self._norm(f"{name}LayerNorm", h, 1e-12)
        h = self._linear("bert.encoder.embedding_hidden_mapping_in", h)
        name = "bert.encoder.albert_layer_groups.0.albert_layers.0."
        for _ in range(12):
            q, k, v = (
                self._linear(f"{name}attention.{part}", h).view(batch, time, 12, 64).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=here[:, None, None, :])
            seen = seen.transpose(1, 2).reshape(batch, time, 768)
            h = h + self._linear(f"{name}attention.dense", seen)
            h = self._norm(f"{name}attention.LayerNorm", h, 1e-12)
            wide = F.gelu(self._linear(f"{name}ffn", h), approximate="tanh")
            h = h + self._linear(f"{name}ffn_output", wide)
            h = self._norm(f"{name}full_layer_layer_norm", h, 1e-12)
        return h

    def _text(self, ids: Tensor, lengths: Tensor, here: Tensor) -> Tensor:
        h = self._weights["text_encoder.embedding.weight"][ids] * here[:, :, None]
        for layer in range(3):
            name = f"text_encoder.cnn.{layer}"
            h = self._convolve(f"{name}.0", h, bias=True)
            gamma, beta = self._weights[f"{name}.1.gamma"], self._weights[f"{name}.1.beta"]
            h = F.leaky_relu(F.layer_norm(h, (512,), gamma, beta, 1e-5), 0.2) * here[:, :, None]
        return self._recur("text_encoder.lstm", h, lengths)

    def curves(self, states: Tensor, lengths: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        """F0 in hertz, not above zero where unvoiced, and energy, [batch, 2 * frames] each.

        `states` are the first of `durations`, spread over frames [batch, frames, 640]; `lengths`
        in frames on the CPU, longest first.
        """
        shared = self._recur("predictor.shared", states, lengths)
        frames = lengths.to(self.device)
        shared = shared * valid(frames, shared.shape[1])[:, :, None]
        made = []
        for curve in ("F0", "N"):
            h = self._block(f"predictor.{curve}.0", shared, styles[:, 128:], frames)
            h = self._block(f"predictor.{curve}.1", h, styles[:, 128:], frames, double=True)
            h = self._block(f"predictor.{curve}.2", h, styles[:, 128:], frames * 2)
            h = self._convolve(f"predictor.{curve}_proj", h, bias=True)
            made.append(h[:, :, 0] * valid(frames * 2, h.shape[1]))
        return made[0], made[1]

    def sound(
        self, states: Tensor, f0_hz: Tensor, energy: Tensor, frames: Tensor, styles: Tensor,
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """Samples [batch, 600 * frames], float32, zero after each sentence's end.

        `states` are the second of `durations`, spread over frames; `frames` [batch] on the device.
        """
        dtype, style, time = self._way.dtype, styles[:, :128], states.shape[1]
        here = valid(frames, time)[:, :, None]
        pitch, loudness = (
            self._convolve(name, curve[:, :, None], bias=True, stride=2, padding=1) * here
            for name, curve in (("decoder.F0_conv", f0_hz), ("decoder.N_conv", energy))
        )
        states, pitch, loudness = ((x * here).to(dtype) for x in (states, pitch, loudness))
        filler = states.new_zeros(states.shape[0], time, 6)
        x = torch.cat([states, pitch, loudness, filler], 2)
        x = self._block("decoder.encode", x, style, frames)
        again = self._convolve("decoder.asr_res.0", states, bias=True) * here
        for layer in range(4):
            x = torch.cat([x, again, pitch, loudness, filler], 2)
            x = self._block(f"decoder.decode.{layer}", x, style, frames, double=layer == 3)
        harmonics = self._harmonics(self._source(f0_hz, generator), frames * 120 + 1)
        return self._generate(x, harmonics, style, frames * 2)

    def _source(self, f0_hz: Tensor, generator: torch.Generator) -> Tensor:
        """Nine harmonics where voiced, noise elsewhere, [batch, 300 samples a step]."""
        turns = torch.cumsum(f0_hz.double() / SAMPLE_RATE_HZ, 1) * 300
        # Between the middles of two steps the phase runs evenly; whole turns do not matter.
        steps = F.pad(turns.diff(dim=1), (1, 1)).float()[:, :, None]
        at = ((torch.arange(300, device=self.device) + 0.5) / 300 - 0.5).float()
        base = (turns % 1).float()[:, :, None]
        phase = (base + torch.where(at < 0, steps[:, :-1] * at, steps[:, 1:] * at)).flatten(1)
        voiced = (f0_hz > _VOICED_HZ).float().repeat_interleave(300, 1)
        mix = self._weights[f"{_GENERATOR}m_source.l_linear.weight"].flatten()
        wave = torch.zeros_like(phase)
        for harmonic in range(_HARMONICS):
            wave += mix[harmonic] * torch.sin((phase * (harmonic + 1) % 1) * (2 * math.pi))
        # The mixture of nine equal noises is one noise as strong as the mixture.
        noise = torch.randn(phase.shape, device=self.device, generator=generator) * mix.norm()
        noise *= voiced * 0.003 + (1 - voiced) * (0.1 / 3)
        bias = self._weights[f"{_GENERATOR}m_source.l_linear.bias"]
        return torch.tanh(wave * voiced * 0.1 + noise + bias)

    def _harmonics(self, source: Tensor, steps: Tensor) -> Tensor:
        """The source's short-time spectrum: 11 magnitudes, 11 angles, 2 zeros."""
        spectrum = torch.stft(
            source, _FFT, _HOP, _FFT, self._window, return_complex=True
        ).transpose(1, 2)  # fmt: skip
        filler = source.new_zeros(*spectrum.shape[:2], 2)
        made = torch.cat([spectrum.abs(), spectrum.angle(), filler], 2)
        return (made * valid(steps, made.shape[1])[:, :, None]).to(self._way.dtype)

    def _generate(self, x: Tensor, harmonics: Tensor, style: Tensor, frames: Tensor) -> Tensor:
        for stage, (times, _) in enumerate(_STAGES):
            x = F.leaky_relu(x, 0.1)
            name = f"{_GENERATOR}noise_convs.{stage}"
            noise = (
                self._convolve(name, harmonics, bias=True, stride=6, padding=3)
                if stage == 0
                else self._convolve(name, harmonics, bias=True)
            )
            x = self._expand(f"{_GENERATOR}ups.{stage}", x, times)
            frames = frames * times
            if stage == 1:
                x = torch.cat([x[:, 1:2], x], 1)
                frames = frames + 1
            here = valid(frames, x.shape[1])[:, :, None]
            noise = noise[:, : x.shape[1]] * here
            x = x * here + self._snake_block(f"{_GENERATOR}noise_res.{stage}", noise, style, frames)
            blocks = [
                self._snake_block(f"{_GENERATOR}resblocks.{3 * stage + i}", x, style, frames)
                for i in range(3)
            ]
            x = (blocks[0] + blocks[1] + blocks[2]) / 3
        x = self._convolve(f"{_GENERATOR}conv_post", F.leaky_relu(x, 0.01), bias=True).float()
        size = x[:, :, :11].exp() * valid(frames, x.shape[1])[:, :, None]
        return self._inverse(torch.polar(size, torch.sin(x[:, :, 11:22])))

    def _inverse(self, spectrum: Tensor) -> Tensor:
        """The waveform of a short-time spectrum [batch, steps, 11]: `istft` without its checks,
        which would wait for the device."""
        pieces = torch.fft.irfft(spectrum, _FFT) * self._window
        joined = _overlap(pieces)
        weight = _overlap((self._window**2).expand(1, spectrum.shape[1], -1))
        half = _FFT // 2
        return joined[:, half:-half] / weight[:, half:-half]


def _overlap(pieces: Tensor) -> Tensor:
    """Add pieces [batch, steps, 20] up, each five samples after the one before."""
    batch, steps, _ = pieces.shape
    parts = pieces.unflatten(2, (_FFT // _HOP, _HOP))
    made = pieces.new_zeros(batch, steps + _FFT // _HOP - 1, _HOP)
    for part in range(_FFT // _HOP):
        made[:, part : part + steps] += parts[:, :, part]
    return made.flatten(1)
