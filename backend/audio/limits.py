"""What a recording may be, whichever library decodes it."""

from backend.errors import BadReference

MIN_S = 1.0
MAX_S = 60.0
"""After trimming silence."""
MAX_RECORDING_S = 120.0
"""With its silence; more is not even decoded."""
MAX_CHANNELS = 8
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000


def check_channels(channels: int) -> None:
    """Raise `BadReference` where there are too many to mix down."""
    if channels > MAX_CHANNELS:
        raise BadReference(
            f"speaker_file has {channels} channels; mix it down to at most {MAX_CHANNELS}."
        )


def check_rate(rate_hz: int) -> None:
    """Raise `BadReference` unless a recording may have `rate_hz`."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise BadReference(
            f"speaker_file has {rate_hz} samples a second; send {MIN_RATE_HZ} to {MAX_RATE_HZ}."
        )


def too_long(length_s: float) -> BadReference:
    """What to raise for a recording of more than `MAX_RECORDING_S`."""
    return BadReference(f"speaker_file is {length_s:.0f} s long; cut it to at most {MAX_S:g} s.")
