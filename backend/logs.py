"""What the processes log: one line of printable text a message, bounded, without any variables."""

import logging
import re
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

MESSAGE_CHARACTERS = 8_000
"""Longest message; of a longer one its beginning and its end are logged."""
_END_CHARACTERS = 2_000
FRAMES = 20
"""Of a traceback, the innermost."""
SAME_FAULT_S = 60.0
"""For so long a fault that was told in full is told in one line."""
MAX_FAULTS = 100
_MINUTE_S = 60.0
_QUERY = re.compile(r"\?[^\s\"]+")
"""Of a URL: some clients put their key there, in vain."""
_PREFIX_BYTES = 20
"""Of each line: time and level."""
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

Clock = Callable[[], float]


def log_to_stderr(level: str, **options: Any) -> None:
    """Log to stderr alone, what libraries log through `logging` included.

    `options` are loguru's for this sink: format and filter.
    """
    logger.remove()
    logger.configure(patcher=_tame_record)
    # Variables hold keys and texts.
    logger.add(sys.stderr, level=level, backtrace=False, diagnose=False, **options)
    logging.basicConfig(handlers=[_ToLoguru()], force=True)


def log_fault(message: str, *values: object, error: BaseException) -> None:
    """Log `message` with the traceback of `error`.

    Not as loguru's exception: a sink that is not ours, loguru's own for one, prints the variables
    of each frame with it.
    """
    logger.opt(depth=1).error(message + "\n{}", *values, _faults.describe(error))


def tame(text: str) -> str:
    """`text` as it may reach a terminal: what does not print is escaped, its middle left out where
    it is long, and its second line cannot pass for another message."""
    if len(text) > MESSAGE_CHARACTERS:
        head = text[: MESSAGE_CHARACTERS - _END_CHARACTERS]
        text = f"{head} … {len(text)} characters … {text[-_END_CHARACTERS:]}"
    if text.isprintable():
        return text
    lines = "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text).split("\n")
    return "\n".join(
        f"    {line}" if number and line[:1].strip() else line for number, line in enumerate(lines)
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _tame_record(record: "Record") -> None:
    record["message"] = tame(record["message"])


class Faults:
    """Tracebacks, each in full once a minute: clients that provoke one must not fill the disk."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._told_s: OrderedDict[tuple[str, str, int], float] = OrderedDict()

    def describe(self, error: BaseException) -> str:
        """The traceback of `error`, or one line where it was told already."""
        frames = traceback.extract_tb(error.__traceback__, limit=-1)
        file, line = (frames[0].filename, frames[0].lineno or 0) if frames else ("", 0)
        where = (type(error).__name__, file, line)
        now_s = self._clock()
        if now_s - self._told_s.get(where, -SAME_FAULT_S) < SAME_FAULT_S:
            return f"{where[0]} in {file}, line {line}, as told less than a minute ago."
        self._told_s[where] = now_s
        self._told_s.move_to_end(where)
        if len(self._told_s) > MAX_FAULTS:
            self._told_s.popitem(last=False)
        return "".join(traceback.format_exception(error, limit=-FRAMES)).rstrip()


_faults = Faults()


class LogBudget:
    """A loguru filter: no more than `bytes_per_minute` are logged, half of them for what is less
    than a warning; the first message of the next minute says how many were left out."""

    def __init__(self, bytes_per_minute: int, clock: Clock = time.monotonic) -> None:
        self._bytes_per_minute, self._clock = bytes_per_minute, clock
        self._begun_s = clock()
        self._used_bytes = self._left_out = 0

    def __call__(self, record: "Record") -> bool:
        """Whether it is logged."""
        if self._clock() - self._begun_s >= _MINUTE_S:
            left_out, self._left_out = self._left_out, 0
            self._begun_s, self._used_bytes = self._clock(), 0
            if left_out:
                logger.warning(
                    "{} messages were left out: SHOAL_LOG_BYTES_PER_MINUTE is {}.",
                    left_out,
                    self._bytes_per_minute,
                )
        is_warning = record["level"].no >= logging.WARNING
        limit_bytes = self._bytes_per_minute if is_warning else self._bytes_per_minute // 2
        size_bytes = _PREFIX_BYTES + len(record["message"].encode())
        if self._used_bytes + size_bytes > limit_bytes:
            self._left_out += 1
            return False
        self._used_bytes += size_bytes
        return True


class _ToLoguru(logging.Handler):
    """Passes on what uvicorn, asyncio and other libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it, its traceback as ours are."""
        message = record.getMessage()
        if record.name.startswith("uvicorn"):
            message = _QUERY.sub("?…", message)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            message = f"{message.rstrip()}\n{_faults.describe(error)}"

        def name(found: "Record") -> None:
            found["name"], found["function"] = record.name, record.funcName
            found["line"] = record.lineno

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        logger.patch(name).log(level, "{}", message)
