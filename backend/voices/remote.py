"""Small files in a store elsewhere, through fsspec: S3, what speaks like it, or another protocol.

What the store does not answer in time, or refuses, is `Unreachable`. Once it did not answer, nobody
waits for it until a look in the background finds that it does again. Nothing that a protocol's
library says is repeated: it may hold credentials.
"""

import importlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from loguru import logger

from backend.core import MIB
from backend.errors import BadSetting
from backend.voices import sealed
from backend.voices.files import SEEN_S, Found, Unreachable

PATIENCE_S = 5.0
"""For one answer of the store."""
RETRY_S = 2.0
"""Between two looks at a store that did not answer."""
HELD_BYTES = 32 * MIB
"""Of files that were read or written, held so that they need not be fetched for each request."""
FETCHED_BYTES = 16 * MIB
"""Of files that are fetched together."""

_OBJECTS = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"})
"""Protocols without folders that would have to be made."""
_STAMPS = ("ETag", "etag", "md5Hash", "generation")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""What the protocols call the mark and the time of a change."""


class Silent(Unreachable):
    """It does not answer at all."""


class Store:
    """What lies at `url`, which `setting` names; raises `BadSetting` where it can never be used."""

    def __init__(self, url: str, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        if "::" in url or parts.password or parts.query or parts.fragment:
            raise BadSetting(
                f"{setting}: a URL is protocol://bucket/prefix and nothing else; credentials "
                "belong in the variables of its protocol, as AWS_ACCESS_KEY_ID."
            )
        if not (parts.netloc + parts.path).strip("/"):
            raise BadSetting(f"{setting}: {url} names no bucket or folder.")
        self.where = url.rstrip("/")
        self.advice = f"try again, and look at what {setting} names"
        protocol = {"s3a": "s3"}.get(parts.scheme, parts.scheme)
        fsspec = importlib.import_module("fsspec")  # a tenth of a second, for those who want it
        try:
            # One of its own: fsspec gives one to all who ask, with the environment of the first.
            self._system, self.root = fsspec.core.url_to_fs(
                self.where, skip_instance_cache=True, **_options(protocol)
            )
        except ImportError as error:
            wanted = '"shoal-tts[s3]"' if protocol == "s3" else str(error.name or protocol)
            raise BadSetting(
                f"{setting}: {protocol}:// needs a package that is not installed; "
                f"pip install {wanted}."
            ) from None
        except ValueError:
            raise BadSetting(f"{setting}: no protocol of fsspec is called {protocol}.") from None
        self.has_folders = protocol not in _OBJECTS
        self.bucket = self.root.partition("/")[0] if protocol == "s3" else ""
        """Which has to be there: one that is not looks like an empty one."""
        self._deadline = {"timeout": PATIENCE_S} if self._system.async_impl else {}
        self.clock = clock
        self._problem = ""
        self._looked_s = 0.0
        self._is_exclusive: bool | None = None
        self._lock = threading.Lock()

    def call(self, name: str, *arguments: Any, **more: Any) -> Any:
        """What fsspec's method `name` returns; raises `Unreachable`, at once while the store is
        known not to answer, `FileNotFoundError` and `FileExistsError`."""
        with self._lock:
            problem = self._problem
            if problem and self.clock() - self._looked_s >= RETRY_S:
                self._looked_s = self.clock()
                in_background(self._see_whether_it_answers)
        if problem:
            raise Unreachable(problem)
        return self._attempt(name, *arguments, **more)

    def check_exclusive(self, folder: str) -> None:
        """See once whether the store does refuse to create what is there; a warning if not."""
        if self._is_exclusive is None:
            path = f"{folder}/{secrets.token_hex(16)}.probe"
            try:
                for data in (b"1", b"2"):
                    self.call("pipe_file", path, data, mode="create")
                self._is_exclusive = False
                logger.warning(
                    "{} puts a file in the place of another though it is told not to: two servers "
                    "that save a voice of one name in the same moment keep the later one.",
                    self.where,
                )
            except FileExistsError:
                self._is_exclusive = True
            self.call("rm_file", path)

    def told(self, error: Exception) -> str:
        """Why the store refuses, in our words."""
        if isinstance(error, PermissionError):
            return "access is refused"
        if isinstance(error, TimeoutError):
            return f"no answer within {PATIENCE_S:g} s"
        number = error.errno if isinstance(error, OSError) else None
        return type(error).__name__ + (f", {os.strerror(number)}" if number else "")

    def _attempt(self, name: str, *arguments: Any, **more: Any) -> Any:
        try:
            return getattr(self._system, name)(*arguments, **more, **self._deadline)
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # noqa: BLE001 - each protocol's library has errors of its own
            problem = self.told(error)
            # What is an answer keeps nobody else from asking.
            is_silent = not isinstance(error, OSError) or isinstance(
                error, ConnectionError | TimeoutError
            )
            if not is_silent:
                raise Unreachable(problem) from None
            if not self._problem:
                self._problem, self._looked_s = problem, self.clock()
                logger.warning("{} does not answer: {}.", self.where, problem)
            raise Silent(problem) from None

    def _see_whether_it_answers(self) -> None:
        try:
            self._attempt("info", self.root)
        except Silent:
            return
        except (Unreachable, FileNotFoundError):
            pass  # which are answers
        self._problem = ""
        logger.info("{} answers again.", self.where)


class RemoteFiles:
    """The files of one folder of `store` that end in `suffix`, as `Files` says."""

    def __init__(self, store: Store, folder: str, suffix: str) -> None:
        self.where = f"{store.where}/{folder}"
        self.advice = store.advice
        self._store, self._suffix = store, suffix
        self._folder = f"{store.root.rstrip('/')}/{folder}"
        self._listed: Mapping[str, Found] | None = None
        self._listed_s = float("-inf")
        """When that listing was asked for."""
        self._coming: Future[tuple[float, Mapping[str, Found]]] | None = None
        self._asked_s = float("-inf")
        """When that one, or the last before it, was begun."""
        self._held: OrderedDict[str, tuple[Hashable, bytes]] = OrderedDict()
        self.held_bytes = 0
        """Of what is held in memory."""

    def look(self, max_age_s: float = SEEN_S) -> Mapping[str, Found] | None:
        """As `Files` says. Whoever is content with `SEEN_S` does not wait for the store, once it
        has been listed: that is done in the background, and told at a later look."""
        before = self._listed
        coming, waits = self._coming, max_age_s < SEEN_S or self._listed_s < 0
        if coming is not None and (coming.done() or waits):
            self._coming = None
            if not waits:
                self._take(*coming.result())
        now_s = self._store.clock()
        if now_s - self._listed_s >= max_age_s:
            if waits:
                self._take(*self._list())
            elif self._coming is None and now_s - self._asked_s >= RETRY_S:
                self._asked_s = now_s
                self._coming = in_background(self._list)
        return None if self._listed is before else self._listed

    def look_again(self) -> None:
        """As `Files` says."""
        self._listed = None

    def read(self, name: str, max_bytes: int, stamp: Hashable = None) -> bytes:
        """As `Files` says."""
        held = self._held.get(name)
        if held is not None and stamp is not None and held[0] == stamp:
            self._held.move_to_end(name)
            return held[1]
        data = self._store.call("cat_file", self._path(name), start=0, end=max_bytes + 1)
        return self._hold(name, stamp, sealed.checked(data, max_bytes))

    def read_all(
        self, found: Mapping[str, Found], max_bytes: int
    ) -> Mapping[str, bytes | Exception]:
        """As `Files` says; those that are too long, or empty, are not fetched."""
        answers: dict[str, bytes | Exception] = {}
        for names in _in_parts(found, max_bytes):
            paths = [self._path(name) for name in names]
            ends = [max_bytes + 1] * len(paths)
            try:
                told = self._store.call(
                    "cat_ranges", paths, [0] * len(paths), ends, on_error="return"
                )
            except OSError as error:
                answers |= dict.fromkeys(names, error)
                continue
            for name, answer in zip(names, told, strict=True):
                answers[name] = self._answer(name, found[name].stamp, answer, max_bytes)
        for name in found.keys() - answers.keys():
            answers[name] = sealed.DamagedFile(f"it has {found[name].size_bytes} bytes")
        return answers

    def write(self, name: str, data: bytes) -> Found:
        """As `Files` says."""
        self._make_folder()
        self._put(name, data, "overwrite")
        return self._put_there(name, data)

    def create(self, name: str, data: bytes) -> Found:
        """As `Files` says, where the store can; a store that cannot is told of once."""
        self._make_folder()
        self._store.check_exclusive(self._folder)
        try:
            self._put(name, data, "create")
        except FileExistsError:
            # Its library tries again what was not answered: it may be ours that is there.
            if not self._holds(name, data):
                raise
        return self._put_there(name, data)

    def delete(self, name: str) -> None:
        """As `Files` says."""
        self._coming = None  # begun before
        try:
            self._store.call("rm_file", self._path(name))
        except FileNotFoundError:
            return
        finally:
            self._let_go(name)

    def touch(self, name: str) -> None:
        """Nothing: a store elsewhere forgets by the time of writing."""

    # -- what is known and held -------------------------------------------------------------------

    def _list(self) -> tuple[float, Mapping[str, Found]]:
        asked_s = self._store.clock()
        try:
            entries = self._store.call("ls", self._folder, detail=True)
        except FileNotFoundError:  # nothing was ever saved
            self._check_bucket()
            return asked_s, {}
        found = {}
        for entry in entries:
            name = str(entry["name"]).rpartition("/")[2]
            if entry["type"] == "file" and name.endswith(self._suffix):
                found[name.removesuffix(self._suffix)] = _found(entry)
        return asked_s, found

    def _check_bucket(self) -> None:
        try:
            if self._store.bucket:
                self._store.call("info", self._store.bucket)
        except FileNotFoundError:
            raise Unreachable(f"there is no bucket {self._store.bucket}") from None

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.read(name, len(data)) == data
        except (FileNotFoundError, sealed.DamagedFile):
            return False

    def _take(self, asked_s: float, found: Mapping[str, Found]) -> None:
        self._listed_s = asked_s
        if found != self._listed:
            self._listed = found

    def _make_folder(self) -> None:
        if self._store.has_folders:
            self._store.call("makedirs", self._folder, exist_ok=True)

    def _put(self, name: str, data: bytes, mode: str) -> None:
        self._coming = None  # begun before
        try:
            self._store.call("pipe_file", self._path(name), data, mode=mode)
        except FileNotFoundError:
            raise Unreachable("its folder is gone") from None

    def _put_there(self, name: str, data: bytes) -> Found:
        """It is there; the next listing will have another stamp for it."""
        self._listed = None
        stamp = secrets.token_hex(8)
        self._hold(name, stamp, data)
        return Found(stamp, len(data), time.time())

    def _answer(
        self, name: str, stamp: Hashable, answer: bytes | Exception, max_bytes: int
    ) -> bytes | Exception:
        if isinstance(answer, FileNotFoundError):
            return answer
        if isinstance(answer, Exception):
            return Unreachable(self._store.told(answer))
        if len(answer) > max_bytes:
            return sealed.DamagedFile(f"it has more than {max_bytes} bytes")
        return self._hold(name, stamp, answer)

    def _hold(self, name: str, stamp: Hashable, data: bytes) -> bytes:
        self._let_go(name)
        if stamp is not None:
            self._held[name] = (stamp, data)
            self.held_bytes += len(data)
            while self.held_bytes > HELD_BYTES:
                self._let_go(next(iter(self._held)))
        return data

    def _let_go(self, name: str) -> None:
        if (held := self._held.pop(name, None)) is not None:
            self.held_bytes -= len(held[1])

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}{self._suffix}"


def in_background(work: Callable[[], Any]) -> "Future[Any]":
    """What `work` will return, in a thread that keeps no process from ending."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - told to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, name="store", daemon=True).start()
    return future


def _options(protocol: str) -> dict[str, Any]:
    """What fsspec's class for `protocol` is to be told."""
    if protocol != "s3":
        return {}
    retries = {"max_attempts": 1}
    waits = {"connect_timeout": PATIENCE_S, "read_timeout": PATIENCE_S, "retries": retries}
    return {"use_listings_cache": False, "config_kwargs": waits}


def _in_parts(found: Mapping[str, Found], max_bytes: int) -> Iterator[list[str]]:
    """Names of files that may be fetched together."""
    part: list[str] = []
    part_bytes = 0
    for name, each in found.items():
        if not 0 < each.size_bytes <= max_bytes:
            continue
        if part and part_bytes + each.size_bytes > FETCHED_BYTES:
            yield part
            part, part_bytes = [], 0
        part.append(name)
        part_bytes += each.size_bytes
    if part:
        yield part


def _found(entry: Mapping[str, Any]) -> Found:
    changed = next((entry[key] for key in _TIMES if entry.get(key) is not None), 0.0)
    changed_s = changed.timestamp() if isinstance(changed, datetime) else 0.0
    if isinstance(changed, int | float):
        changed_s = float(changed)
    stamp = next((str(entry[key]) for key in _STAMPS if entry.get(key)), None)
    size_bytes = int(entry["size"] or 0)
    return Found((stamp, size_bytes, str(changed)), size_bytes, changed_s)
