"""What a message to a worker asks for: what its memory is leased for, and whose voice is read."""

from backend.audio.container import decoding_bytes
from backend.core import EngineInfo
from backend.hardware.memory import Demand
from backend.model.reading import wide_share
from backend.worker.messages import Asked, DecodeCodes, EncodeVoice, Speak


def demand_of(asked: Asked, info: EngineInfo) -> Demand:
    """What `asked` takes of a worker that has loaded `info`, at most."""
    match asked:
        case Speak(text=text, references=references):
            # Not what is said of a voice: its file may come from elsewhere.
            frames = sum(each.codes.frames for each in references)
            return Demand(
                *(len(text), len(text)),
                open_segments=1,
                reference_s=frames / info.frame_rate_hz,
                wide_share=wide_share(text),
            )
        case EncodeVoice(audio=audio):
            # How long the recording is, the worker will know; it uses no more of it than this.
            return Demand(
                *(1, 1),
                open_segments=1,
                encoded_s=info.max_reference_s,
                decoding_bytes=decoding_bytes(audio),
            )
        case DecodeCodes(codes=codes):
            decoded_s = codes.frames / info.frame_rate_hz
            return Demand(1, 1, open_segments=1, decoded_s=decoded_s)


def voice_of(speak: Speak) -> int | None:
    """The voice whose prompt has to be read; None of the default one."""
    return hash(speak.references) if speak.references else None
