"""Environment to frozen settings, once. An unknown name is an error that names the nearest."""

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from platformdirs import user_data_dir
from pydantic import AliasChoices, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.core import MIB, EngineName, LongText
from backend.errors import BadSetting

PREFIX = "SHOAL_"
SHIPPED_VOICE_DIR = Path(__file__).parent / "checkpoints" / "demo"

Device = Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
QuantizationSetting = Literal["auto", "none", "int8", "int4"]
Compile = Literal["auto", "off"]
CpuAffinity = Annotated[str, StringConstraints(pattern=r"^(auto|off|\d+(-\d+)?(,\d+(-\d+)?)*)$")]
Workers = Annotated[str, StringConstraints(pattern=r"^(auto|[1-9]\d?)$")]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def _also_bare(name: str) -> AliasChoices:
    """Read with the prefix, else without it: the names that users of Fish Speech already set."""
    return AliasChoices(PREFIX + name, name)


class Settings(BaseSettings):
    """Everything that can be set. `load_settings` reads it, and refuses unknown names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in, which takes `api_keys`."""

    port: int = Field(8000, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""

    model_dir: Path | None = Field(None, validation_alias=_also_bare("MODEL_DIR"))
    """Folder of the checkpoint to speak with; not set, the voice that ships in the package."""

    device: Device = Field("auto", validation_alias=_also_bare("DEVICE"))
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""

    workers: Workers = "auto"
    """Workers that speak behind one queue: auto, one for each GPU and of a small checkpoint one for
    every four cores of a CPU, or 1 to 99. Other settings of rows, threads and memory are each
    one's."""

    precision: Precision = Field("auto", validation_alias=_also_bare("PRECISION"))
    """Type of the weights while computing: auto, fp32, bf16 or fp16."""

    num_threads: int | None = Field(None, ge=1, validation_alias=_also_bare("NUM_THREADS"))
    """Threads that compute on the CPU; not set, as many as there are physical cores."""

    quantization: QuantizationSetting = Field("auto", validation_alias=_also_bare("QUANTIZATION"))
    """How weights are stored: auto, none, int8 or int4."""

    torch_compile: Compile = "auto"
    """Whether code is compiled on this machine, Triton's or C: auto or off."""

    force_torch_compile: bool = Field(False, validation_alias=_also_bare("FORCE_TORCH_COMPILE"))
    """Try it even where the platform is not expected to support it."""

    cpu_affinity: CpuAffinity = Field("auto", validation_alias=_also_bare("CPU_AFFINITY"))
    """Logical CPUs of the worker: auto, off, or a list as in 0-3,6."""

    thermal_control: bool = True
    """Whether fewer threads compute before the CPU would throttle, until it is cool again."""

    throttles_at_c: float | None = Field(None, ge=40, le=120)
    """Temperature at which what computes begins to throttle, in °C; not set, its sensor's own."""

    memory_control: bool = True
    """Memory is leased before it is taken, what does not fit is refused, and less is gone on with
    where it runs short; false does none of it, and is for `benchmarks/stability.py`."""

    unload_after_s: float = Field(0.0, ge=0)
    """The worker ends after so long without a request, and starts with the next; 0 is never."""

    max_text_length: int | None = Field(
        None, ge=1, le=100_000, validation_alias=_also_bare("MAX_TEXT_LENGTH")
    )
    """Characters of one request's text past which `long_text` applies; not set, the tier's."""

    dynamic_text_limit: bool = True
    """Whether memory that is free now raises or lowers the tier's text limit."""

    long_text: LongText = Field("truncate", validation_alias=_also_bare("LONG_TEXT"))
    """What happens to text past the limit: truncate, split or reject."""

    chunk_length: int | None = Field(None, ge=20, le=2000)
    """Longest piece of text spoken in one go, in characters; not set, the tier's."""

    cache_limit_mb: int | None = Field(None, ge=1)
    """Memory for keys and values, in MiB; not set, the tier's."""

    engine: EngineName = Field("shoal", validation_alias=_also_bare("ENGINE"))
    """What speaks: shoal, or fish-speech, the published package in an environment of its own."""

    data_dir: Path = Field(default_factory=lambda: Path(user_data_dir("shoal", appauthor=False)))
    """Folder for what Shoal keeps between runs: saved voices, encoded references, environments of
    other engines, compiled code."""

    shared_dir: str = ""
    """Folder or URL (s3://bucket/prefix, or another protocol of fsspec) where several servers share
    saved voices and encoded recordings; not set, they are in `data_dir`, of this machine alone."""

    learn: bool = True
    """Whether what earlier requests took is learned from the request log, where river is installed,
    and foretells what the next ones take."""

    metrics: bool = True
    """Whether each request is logged to CSV files in `metrics_dir`."""

    metrics_dir: Path = Path("metrics")
    """Folder of the CSV files."""

    metrics_rotate_bytes: int = Field(16 * MIB, ge=4096)
    """A CSV file that has grown past this many bytes is followed by a new one."""

    metrics_keep_days: float = Field(30.0, ge=0, le=36_500)
    """A CSV file that was last written longer ago than this many days is deleted; 0 keeps all."""

    metrics_limit_mb: int = Field(256, ge=0, le=1 << 30)
    """The oldest CSV files are deleted where all of them take more than this; 0 keeps all."""

    max_batch: int | None = Field(None, ge=1, le=1024)
    """Most segments of text that are spoken side by side; more wait. Not set, 16, and 128 on a GPU
    of 24 GB or more."""

    max_batch_per_client: int | None = Field(None, ge=1, le=1024)
    """Most of them that are of one key, or of one address without keys; the others are for the next
    client. Not set, half of them."""

    max_text_characters: int = Field(100_000, ge=1, le=100_000)
    """Longest text of one request, in characters."""

    max_upload_bytes: int = Field(20 * MIB, ge=1024, le=48 * MIB)
    """Largest reference recording, in bytes of the uploaded file."""

    uploads_mb: int = Field(256, ge=1)
    """Memory for recordings and other bodies of all requests together, in MiB, half of which one
    address may have; never less than the largest single request needs."""

    upload_timeout_s: float = Field(60.0, gt=0)
    """A body, or a message of a live connection, of which nothing arrives for this many seconds is
    given up."""

    upload_bytes_per_s: int = Field(16 * 1024, ge=1)
    """So is one that arrives slower than this for much longer than `upload_timeout_s`."""

    unread_timeout_s: float = Field(60.0, gt=0)
    """A client that reads nothing of its answer for this many seconds, or less than 1 KiB a second
    for much longer, is cut off."""

    max_connections: int = Field(1000, ge=8, le=100_000)
    """Most connections that are open; fewer where the system lets this process open fewer files."""

    max_connections_per_address: int = Field(256, ge=1)
    """Most connections of one address, a network of 64 bits in IPv6, and at most half of all; a
    proxy in front of the server is one address."""

    max_header_bytes: int = Field(64 * 1024, ge=1024, le=1024 * 1024)
    """Longest header of a request, in bytes."""

    header_timeout_s: float = Field(10.0, gt=0)
    """A connection whose request has no whole header after this many seconds is closed."""

    keep_alive_s: float = Field(5.0, gt=0)
    """A connection that was answered is closed when no other request comes for so many seconds."""

    request_timeout_s: float = Field(3600.0, gt=0)
    """A request that is not spoken after this many seconds is given up; `X-Timeout-S` may ask for
    less."""

    queue_limit: int | None = Field(None, ge=0, le=10_000)
    """Requests that may wait beside those that are being spoken; more are refused (503). Not set,
    112, or seven for each that is spoken."""

    api_keys: str = Field("", repr=False)
    """Comma-separated keys, one of which every request but /health must bring; empty asks for
    none. `name:key` gives a key a name for the log."""

    public_lists: bool = False
    """Whether the lists of voices and models that OpenAI's clients read need no key, for programs
    that send none with them; they hold names."""

    get_speech: bool = False
    """Whether `GET /tts?text=…` speaks, for players that can only open a link."""

    allow_open: bool = False
    """Whether a server without `api_keys` may listen on an address that other machines reach."""

    allowed_hosts: str = ""
    """Comma-separated names that requests may call this server beside localhost's, *.name for all
    below one; checked where it listens on this machine alone, or where names are given."""

    forwarded_allow_ips: str = ""
    """Comma-separated addresses or networks of reverse proxies whose X-Forwarded-For is believed;
    empty believes none."""

    rate_limit_per_minute: int = Field(0, ge=0)
    """Requests that change, speak, encode or decode something that one key, or one address without
    keys, may make a minute; 0 is no limit."""

    rate_store: str = Field("", repr=False)
    """URL of a store in which several servers count that together, redis://host:6379/0 say; empty,
    each counts for itself."""

    cors_origins: str = ""
    """Comma-separated origins whose pages may call this server, or *; empty lets none."""

    default_voice: str = ""
    """Saved voice that speaks where a request names none; empty is the checkpoint's own."""

    shipped_voices: bool = True
    """Whether the voices that the checkpoint ships are listed and spoken in."""

    max_voices: int = Field(1000, ge=0, le=100_000)
    """Most voices that are saved."""

    voices_limit_mb: int = Field(256, ge=1)
    """Room on disk for saved voices, in MiB."""

    reference_cache_mb: int = Field(16, ge=0)
    """Memory for encoded references, in MiB: hours of speech."""

    reference_disk_cache_mb: int = Field(64, ge=0)
    """Room on disk for encoded references, in MiB; 0 keeps none on disk."""

    max_live_per_client: int = Field(32, ge=1)
    """Live connections that one key, or one address without keys, may have open together."""

    live_idle_s: float = Field(60.0, gt=0)
    """A live connection that sends nothing for this many seconds is asked by a ping, and closed
    where it does not answer within as many again."""

    live_messages_per_s: int = Field(1000, ge=1)
    """Messages that one live connection may send a second; more are read later."""

    cpu_worker_idle_s: float = Field(300.0, gt=0)
    """The CPU worker that `force_cpu` starts beside a GPU's is ended when idle for so long."""

    worker_python: Path = Path(sys.executable)
    """Python that runs the worker; it may be of another environment with Shoal in it."""

    worker_start_timeout_s: float = Field(600.0, gt=0)
    """A worker that has not loaded its checkpoint after this many seconds is killed."""

    worker_unresponsive_s: float = Field(120.0, gt=0)
    """A worker that does not give up an aborted request, or is busy and makes no step, within this
    many seconds is killed."""

    worker_silent_s: float = Field(2.5, ge=1)
    """A worker that gives no sign of life for so long (it was stopped, or the machine thrashes) is
    asked nothing, and replaced after twice as long."""

    max_unread_mb: int = Field(256, ge=8)
    """MiB of audio that may wait for clients that listen while it is made, of all together. From
    half of it on a request gets its next sentence once it has fetched the last; past it, the
    sentence of which most waits is given up."""

    worker_answer_s: float = Field(30.0, gt=0)
    """How long the worker may take to change its configuration or to clear its caches (504)."""

    restart_delay_s: float = Field(0.5, gt=0)
    """Pause before a dead worker is started again; it doubles each time one dies that was
    not ready for five seconds."""

    restart_delay_max_s: float = Field(30.0, gt=0)
    """Longest such pause; after a worker that had become ready it is at most two seconds."""

    shutdown_grace_s: float = Field(5.0, ge=0)
    """Seconds that requests and the worker get to finish when the server is told to stop."""

    log_level: LogLevel = "INFO"
    """Least severe messages that are logged: DEBUG, INFO, WARNING or ERROR."""

    log_bytes_per_minute: int = Field(MIB, ge=4096)
    """Most that is logged in a minute, in bytes; of messages below a warning half as much."""

    @property
    def worker_count(self) -> int | None:
        """Workers that are asked for; None is as many as the plan has."""
        return None if self.workers == "auto" else int(self.workers)

    @property
    def checkpoint_dir(self) -> Path:
        """The checkpoint to speak with."""
        return self.model_dir or SHIPPED_VOICE_DIR


BARE_NAMES = frozenset(
    {
        *("MODEL_DIR", "DEVICE", "PRECISION", "NUM_THREADS", "QUANTIZATION", "MAX_TEXT_LENGTH"),
        *("FORCE_TORCH_COMPILE", "CPU_AFFINITY", "LONG_TEXT", "ENGINE"),
    }
)
"""Settings that are also read without the prefix."""


def load_settings(dotenv_file: Path | None = Path(".env"), **overrides: Any) -> Settings:
    """The settings of this process: `overrides` (unless None) before environment before `.env`.

    Raises `BadSetting` with one line that names the setting and what it may be.
    """
    ours = [name for name in os.environ if name.upper().startswith(PREFIX)]
    _refuse_unknown(ours, "the environment")
    if dotenv_file is not None and dotenv_file.is_file():
        _refuse_unknown(dotenv_values(dotenv_file), str(dotenv_file))
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(_env_file=dotenv_file, **given)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper().removeprefix(PREFIX)
        raise BadSetting(f"{name}: {first['msg']}, got {first['input']!r}.") from None


def listed(text: str) -> list[str]:
    """The entries of a setting that names several, separated by commas."""
    return [entry for part in text.split(",") if (entry := part.strip())]


def _refuse_unknown(names: Iterable[str], where: str) -> None:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    for name in names:
        if name.upper() in known or name.upper() in BARE_NAMES:
            continue
        wanted = PREFIX + name.upper().removeprefix(PREFIX)
        nearest = difflib.get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
        raise BadSetting(f"Unknown setting {name} in {where}: did you mean {nearest}?")
