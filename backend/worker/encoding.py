"""Recordings to codes, one after another, in a thread beside the speech.

The codec keeps nothing between two calls but what each caller's `Stream` holds, so both threads may
use it; torch lets go of Python's lock while it computes, so frames go on being made.
"""

import contextlib
import queue
import threading

from backend.audio.read import read_reference
from backend.codec.reference import encode_reference
from backend.core import ReferenceCodes
from backend.engine.prompt import wire_codes
from backend.errors import Aborted, ShoalError
from backend.worker.device import use_threads
from backend.worker.failure import failed
from backend.worker.load import Loaded
from backend.worker.messages import Encoded, EncodeVoice, Failed
from backend.worker.pipe import Send


class VoiceEncoding:
    """Answers every `EncodeVoice` with `Encoded` or `Failed`, whatever happens to it."""

    def __init__(self, loaded: Loaded, send: Send) -> None:
        self._loaded, self._send = loaded, send
        self.num_threads = loaded.info.num_threads
        """Threads that the worker may use; of these, speech has more than its half."""
        self._waiting: queue.SimpleQueue[EncodeVoice | None] = queue.SimpleQueue()
        self._wanted: set[str] = set()
        """Ids of the requests that have no answer yet."""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._wanted

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def add(self, asked: EncodeVoice) -> None:
        """Encode it when those before it are done."""
        self._wanted.add(asked.request_id)
        self._waiting.put(asked)

    def abort(self, request_id: str) -> None:
        """Answer it now; if it is being encoded, that ends at the next piece."""
        self._answer(failed(request_id, Aborted("The request was given up.")))

    def stop(self, error: ShoalError) -> None:
        """Answer everybody with `error`. The thread leaves at the next piece; none waits for it."""
        for request_id in tuple(self._wanted):
            self._answer(failed(request_id, error))
        self._waiting.put(None)

    def _run(self) -> None:
        while (asked := self._waiting.get()) is not None:
            use_threads(max(1, self.num_threads // 2))  # torch counts each thread's apart
            try:
                answer: Encoded | Failed = Encoded(asked.request_id, self._encode(asked))
            except Exception as error:  # noqa: BLE001 - the request's boundary
                answer = failed(asked.request_id, error)
            self._answer(answer)

    def _encode(self, asked: EncodeVoice) -> ReferenceCodes:
        info, checkpoint = self._loaded.info, self._loaded.checkpoint

        def check_wanted() -> None:
            if asked.request_id not in self._wanted:
                raise Aborted("The request was given up.")

        check_wanted()
        recording = read_reference(asked.audio, info.sample_rate_hz, info.max_reference_s)
        codes = encode_reference(checkpoint.codec, recording.samples, check_wanted)
        return wire_codes(codes, checkpoint.codec_config, info.codec_id, recording.warnings)

    def _answer(self, answer: Encoded | Failed) -> None:
        with self._lock:  # sent within it: nothing may follow the answer to an abort
            if answer.request_id in self._wanted:
                self._wanted.remove(answer.request_id)
                # Nobody reads any more: the loop will find out, and it is the one to leave.
                with contextlib.suppress(OSError):
                    self._send(answer)
