"""A probe that needs no torch: it says of every question what its argument, JSON, tells it to."""

import json
import os
import sys

from backend.bench.messages import Channel, DecodePieces, Hello, MakeFrames, ReadMemory, Took

TOLD = json.loads(sys.argv[1])
"""`name` and `frames_s`; `dies_after`: answers after which it ends with exit code 3; `is_garbled`:
it says what is no answer."""


def main() -> None:
    if TOLD.get("is_garbled"):
        print("no answer", flush=True)
    channel = Channel()
    print("what a library prints")
    name = TOLD["name"]
    channel.tell(Hello("fake", "spoken", name, "none", "fp32", 1, "none", 1000, 0.1, os.getpid()))
    left = TOLD.get("dies_after", -1)
    while left and (question := channel.asked()) is not None:
        left -= 1
        match question:
            case MakeFrames(rows=rows, context=context):
                slower = 1 + context / 4096
                frames_s = TOLD["frames_s"] * rows**0.5 / slower
                channel.tell(Took(frames_s, 1.0, 0.5, "spoken"))
            case DecodePieces(frames=frames):
                channel.tell(Took(1000 / frames, 1.0, 0.5))
            case ReadMemory():
                channel.tell(Took(20e9, 1.0, 0.5))
    sys.exit(3 if not left else 0)


main()
