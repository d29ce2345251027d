"""Recordings to codes and codes to sound, one after another, in a thread beside the speech.

The codec keeps nothing between two calls but what each caller's `Stream` holds, so both threads may
use it; torch lets go of Python's lock while it computes, so frames go on being made.
"""

import contextlib
import math
import queue
import threading
from collections.abc import Callable

from backend.audio.read import read_reference
from backend.codec.one_by_one import decode_codes
from backend.codec.reference import encode_reference
from backend.engine.prompt import checked_codes, wire_codes
from backend.errors import Aborted, ShoalError
from backend.worker.device import use_threads
from backend.worker.failure import failed
from backend.worker.loaded import Loaded
from backend.worker.messages import (
    MAX_DECODED_S,
    DecodeCodes,
    Decoded,
    Encoded,
    EncodeVoice,
    Failed,
    Pcm,
)
from backend.worker.pipe import Send


class VoiceEncoding:
    """Answers every `EncodeVoice` and `DecodeCodes`, whatever happens to it."""

    def __init__(self, loaded: Loaded, send: Send) -> None:
        self._loaded, self._send = loaded, send
        self.num_threads = loaded.info.num_threads
        """Threads that the worker may use; what is spoken when this begins has half of them."""
        self._waiting: queue.SimpleQueue[EncodeVoice | DecodeCodes | None] = queue.SimpleQueue()
        self._wanted: set[str] = set()
        """Ids of the requests that have no answer yet."""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._wanted

    @property
    def is_idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._wanted

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, asked: EncodeVoice | DecodeCodes) -> None:
        """Encode or decode it when those before it are done."""
        self._wanted.add(asked.request_id)
        self._waiting.put(asked)

    def abort(self, request_id: str) -> None:
        """Answer it now; if it is being worked at, that ends at the next piece."""
        self._answer(failed(request_id, Aborted("The request was given up.")))

    def stop(self, error: ShoalError) -> None:
        """Answer all with `error`. The thread leaves at the next piece; none waits for it."""
        for request_id in tuple(self._wanted):
            self._answer(failed(request_id, error))
        self._waiting.put(None)

    def _run(self) -> None:
        while self._serve(self._waiting.get()):
            pass  # a recording is not kept until the next one comes

    def _serve(self, asked: EncodeVoice | DecodeCodes | None) -> bool:
        """Answer `asked`; False where nothing follows."""
        if asked is None:
            return False
        is_alone = self._loaded.engine.is_idle
        # Torch counts each thread's apart.
        use_threads(self.num_threads if is_alone else max(1, self.num_threads // 2))
        try:
            answer = self._work(asked)
        except Exception as error:  # noqa: BLE001 - the request's boundary
            answer = failed(asked.request_id, error)
        self._answer(answer)
        return True

    def _work(self, asked: EncodeVoice | DecodeCodes) -> Encoded | Decoded | Failed:
        def check_wanted() -> None:
            if asked.request_id not in self._wanted:
                raise Aborted("The request was given up.")

        check_wanted()
        if isinstance(asked, EncodeVoice):
            return self._encode(asked, check_wanted)
        return self._decode(asked, check_wanted)

    def _encode(self, asked: EncodeVoice, before_piece: Callable[[], None]) -> Encoded:
        info, checkpoint = self._loaded.info, self._loaded.checkpoint
        recording = read_reference(asked.audio, info.sample_rate_hz, info.max_reference_s)
        stored = checkpoint.stored_codec
        stages = None if stored is None else stored.encoding_stages()
        codes = encode_reference(checkpoint.codec, recording.samples, before_piece, stages)
        wired = wire_codes(codes, checkpoint.codec_config, info.codec_id, recording.warnings)
        return Encoded(asked.request_id, wired)

    def _decode(self, asked: DecodeCodes, before_piece: Callable[[], None]) -> Decoded:
        info, checkpoint = self._loaded.info, self._loaded.checkpoint
        most = math.ceil(MAX_DECODED_S * info.frame_rate_hz)
        codes = checked_codes(asked.codes, checkpoint.codec_config, info.codec_id, most)
        for samples in decode_codes(checkpoint.codec, codes, before_piece):
            self._tell(Pcm(asked.request_id, samples.numpy().astype("<f4").tobytes()))
        return Decoded(asked.request_id)

    def _answer(self, answer: Encoded | Decoded | Failed) -> None:
        self._tell(answer, is_last=True)

    def _tell(self, message: Pcm | Encoded | Decoded | Failed, is_last: bool = False) -> None:
        with self._lock:  # sent within it: nothing may follow the answer to an abort
            if message.request_id not in self._wanted:
                return
            if is_last:
                self._wanted.remove(message.request_id)
            # Nobody reads any more: the loop will find out, and it is the one to leave.
            with contextlib.suppress(OSError):
                self._send(message)
