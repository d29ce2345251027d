"""`python -m tests.interpreted_decoder` under TRITON_INTERPRET=1: Triton's kernels on a CPU.

Compares the fused decoder with the plain one, whole and piece by piece, and prints the largest
difference of a sample.
"""

import copy

import torch

from backend.model.codec_layout import lay_out_decoder_
from backend.model.config import CodecConfig, WindowConfig
from backend.model.dac import DAC
from backend.model.stream import Stream
from tests.tiny import TINY_CODEC, randomize_

SMALL = {
    "decoder_dim": 24,
    "decoder_rates": (3, 2),
    "encoder_rates": (2, 3),
    "downsample_factor": (2,),
    "latent_dim": 20,
    "post": WindowConfig(16, 1, 2, 8, 24, window=6),
}


@torch.inference_mode()
def main() -> None:
    """Command line."""
    codec = DAC(CodecConfig(**{**TINY_CODEC, **SMALL})).eval()
    randomize_(codec, 3)
    fused = copy.deepcopy(codec)
    lay_out_decoder_(fused, torch.float32, "fused")
    codes = torch.randint(0, 64, (2, 4, 7), generator=torch.Generator().manual_seed(0))
    wanted = codec.decode(codes)
    assert wanted.std() > 0.02
    stream, pieces = Stream(4), []
    stream.select(torch.tensor([3, 1]))
    for piece in torch.split(codes, [2, 1, 4], -1):
        pieces.append(fused.decode(piece, stream))
    found = torch.cat((fused.decode(codes) - wanted, torch.cat(pieces, -1) - wanted))
    print(float(found.abs().max()))


if __name__ == "__main__":
    main()
