"""Messages of a worker as Ray carries them: msgpack, typed, several in a block. Nothing is
unpickled that was not sent by this code."""

import msgspec

from backend.worker.messages import FromWorker, ToWorker

_encoder = msgspec.msgpack.Encoder()
_asked = msgspec.msgpack.Decoder(ToWorker)
_said = msgspec.msgpack.Decoder(tuple[FromWorker, ...])


def asking(message: ToWorker) -> bytes:
    """`message` on its way to a replica."""
    return _encoder.encode(message)


def asked(block: bytes) -> ToWorker:
    """What `asking` made of it; `msgspec.MsgspecError` where it is none."""
    message: ToWorker = _asked.decode(block)
    return message


def saying(*messages: FromWorker) -> bytes:
    """`messages` on their way back, in one block."""
    return _encoder.encode(messages)


def said(block: bytes) -> tuple[FromWorker, ...]:
    """What `saying` made of them; `msgspec.MsgspecError` where they are none."""
    messages: tuple[FromWorker, ...] = _said.decode(block)
    return messages
