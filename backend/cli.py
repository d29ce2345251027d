"""The `shoal` command. Errors a user can cause are one line and an exit code, never a traceback."""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, BinaryIO, NoReturn, get_args

import typer
from loguru import logger
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backend.api.guard import first_key, refuse_open
from backend.app import create_app
from backend.audio.write import AudioWriter
from backend.bench.command import Asked
from backend.bench.command import run as run_bench
from backend.connections.server import Server
from backend.core import (
    LANGUAGES,
    MAX_SEED,
    SAMPLING_LIMITS,
    AudioFormat,
    AudioOutput,
    ReferenceAudio,
    SamplingParams,
    SpeechRequest,
)
from backend.errors import BadField, BadReference
from backend.faces import GRADIO, STREAMLIT, Face, Page, api_environment, make_page, show
from backend.fish_worker.install import add_engine, list_engines, remove_engine
from backend.hardware.deployment import Deployment
from backend.hardware.report import hardware_json, plan_json, plan_table, workers_json
from backend.heap import use_one_arena
from backend.languages import language_code
from backend.listening import listen, local_url
from backend.logs import LogBudget, log_to_stderr
from backend.report.page import write_report
from backend.server_status import ask, status_table, which
from backend.settings import Settings, load_settings
from backend.smart_backend import SmartBackend
from backend.terminal import fail, one_line_errors, stderr
from backend.tuning.terminal import tune_here

app = typer.Typer(
    help="Speak with Fish Speech checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_DEFAULTS = SamplingParams()
_START_ATTEMPTS = 1
"""A command does not wait for a worker that failed to start: the second try would fail as well."""

ModelDir = Annotated[
    Path | None, typer.Option(help="Checkpoint folder; not given, the shipped voice.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
OpensBrowser = Annotated[
    bool,
    typer.Option("--open/--no-open", help="Open the page in a browser, where one can be seen."),
]


def _log(level: str, bytes_per_minute: int = 0) -> None:
    """For people: the time of day, and no more than `bytes_per_minute` unless 0."""
    budget = LogBudget(bytes_per_minute) if bytes_per_minute else None
    log_to_stderr(level, format="<dim>{time:HH:mm:ss}</dim> {level: <7} {message}", filter=budget)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    model_dir: ModelDir = None,
    device: Device = None,
    ui: Annotated[bool, typer.Option("--ui", help="Show the Gradio page, too.")] = False,
    ui_port: Annotated[int | None, typer.Option(help="Port of that page; else 7860.")] = None,
    opens_browser: OpensBrowser = True,
    cluster: Annotated[bool, typer.Option("--cluster", help="Speak on a Ray cluster.")] = False,
) -> None:
    """Serve over HTTP until stopped."""
    use_one_arena()
    with ExitStack() as stack:
        with one_line_errors():
            settings = load_settings(host=host, port=port, model_dir=model_dir, device=device)
            refuse_open(settings)
            listener = stack.enter_context(listen(settings.host, settings.port))
            settings = settings.model_copy(update={"port": listener.getsockname()[1]})
            _log(settings.log_level, settings.log_bytes_per_minute)
            if cluster:
                http = stack.enter_context(import_module("backend.cluster").cluster_app(settings))
            else:
                http = create_app(settings, deployment=Deployment.look(settings))
            page = _page_beside(settings, ui_port, opens_browser) if ui else None
        backend: SmartBackend = http.state.backend
        Server(http, settings, backend.stop_admitting, page).run(sockets=[listener])


def _page_beside(settings: Settings, port: int | None, opens_browser: bool) -> Page:
    """The Gradio page for this server, with a key to it."""
    told = {"API_URL": local_url(settings.host, settings.port)}
    if key := first_key(settings.api_keys):
        told["API_KEY"] = key

    def has_ended(exit_code: int) -> None:
        logger.warning("The page has ended, exit code {}; the server goes on.", exit_code)

    page = make_page(GRADIO, None, port, told, opens_browser, has_ended)
    if key and not page.is_local:
        logger.warning("Anybody who reaches {}:{} speaks without a key.", page.host, page.port)
    return page


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to speak.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .wav .mp3 .opus .flac .aac or .pcm.")
    ] = Path("out.wav"),
    voice: Annotated[str, typer.Option(help="Saved voice to speak in.")] = "",
    speaker_file: Annotated[
        Path | None, typer.Option(help="Recording of the voice to speak in.")
    ] = None,
    prompt_text: Annotated[str, typer.Option(help="What is said in the recording.")] = "",
    language: Annotated[str, typer.Option(help="One of " + " ".join(LANGUAGES))] = "auto",
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = _DEFAULTS.temperature,
    top_p: Annotated[float, typer.Option()] = _DEFAULTS.top_p,
    repetition_penalty: Annotated[float, typer.Option()] = _DEFAULTS.repetition_penalty,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED)] = None,
    speed: Annotated[float, typer.Option(min=0.5, max=2.0, help="Tempo, at the same pitch.")] = 1.0,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Speak into a file, without a server."""
    with one_line_errors():
        sampling = SamplingParams(temperature, top_p, repetition_penalty, seed)
        _check_sampling(sampling)
        output = AudioOutput(_format_of(out), speed=speed)
        reference = ReferenceAudio(_read(speaker_file), prompt_text) if speaker_file else None
        request = SpeechRequest(
            secrets.token_hex(4),
            text,
            language=language_code(language, "--language"),
            sampling=sampling,
            references=(reference,) if reference else (),
            voice=voice,
            long_text="split",
        )
        settings = load_settings(model_dir=model_dir, device=device, metrics=False, workers="1")
        logger.remove()  # one clear line is better than a log; DEBUG asks for it
        if settings.log_level == "DEBUG":
            _log("DEBUG")
        try:
            asyncio.run(_say(settings, request, out, output))
        except KeyboardInterrupt:
            fail("stopped")


def _check_sampling(sampling: SamplingParams) -> None:
    for name, (least, greatest) in SAMPLING_LIMITS.items():
        value = getattr(sampling, name)
        if not least <= value <= greatest:
            option = name.replace("_", "-")
            raise BadField(f"--{option} is {value:g}; use {least:g} to {greatest:g}.")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadReference(f"{file} cannot be read: {error.strerror}.") from None


def _format_of(out: Path) -> AudioFormat:
    formats = get_args(AudioFormat)
    for name in formats:
        if out.suffix.lower() == f".{name}":
            return name  # type: ignore[no-any-return] # one of the literals
    raise BadField(f"{out}: name a file that ends with .{', .'.join(formats)}.")


async def _say(settings: Settings, request: SpeechRequest, out: Path, output: AudioOutput) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("loading")
        async with SmartBackend(settings, start_attempts=_START_ATTEMPTS) as backend:
            await backend.ready()
            started_s = time.perf_counter()
            async with backend.speak(request) as session:
                with (
                    _writable(out) as file,
                    closing(AudioWriter(file, output, session.info.sample_rate_hz)) as writer,
                ):
                    async for chunk in session:
                        writer.write(chunk.samples)
                        part = f"sentence {chunk.segment + 1}"
                        progress.update(task, description=f"speaking, {part}")
            total_s = time.perf_counter() - started_s
    audio_s = session.stats.audio_s / output.speed
    for warning in session.stats.warnings:
        stderr.print(f"shoal: {warning}", style="yellow", markup=False, highlight=False)
    rtf = f", RTF {total_s / audio_s:.2f}" if audio_s else ""
    typer.echo(f"{out}: {audio_s:.2f} s of speech in {total_s:.2f} s{rtf}")


@contextmanager
def _writable(out: Path) -> Iterator[BinaryIO]:
    """`out`, opened before anything is spoken in vain."""
    try:
        with out.open("wb") as file:
            yield file
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror}")


@app.command()
def plan(
    model_dir: ModelDir = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what was chosen for this machine, and why. Loads nothing."""
    logger.remove()
    with one_line_errors():
        deployment = Deployment.look(load_settings(model_dir=model_dir, device=device))
    if as_json:
        described = {
            "hardware_profile": hardware_json(deployment.hardware),
            "selected_configuration": plan_json(deployment.plan),
            "workers": workers_json(deployment),
        }
        typer.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    of = (deployment.plan, deployment.hardware, deployment.shape, deployment.workers)
    Console().print(plan_table(*of))
    for level, line in deployment.plan.log_lines:
        stderr.print(line, style="yellow" if level == "WARNING" else None, markup=False)


@app.command()
def status(
    url: Annotated[str | None, typer.Argument(help="Of a server; else API_URL, or ours.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how a server is, with its workers or replicas. The exit code is 0 when it is ready."""
    with one_line_errors():
        settings = load_settings()
        ours = local_url(settings.host, settings.port), first_key(settings.api_keys)
        told = ask(*which(url, *ours), timeout)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        Console().print(status_table(told))
    raise typer.Exit(0 if told["ready"] else 1)


@app.command()
def bench(
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder; else random weights of openaudio-s1-mini's size."),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Measure the shipped voice.")] = False,
    device: Device = None,
    upstream: Annotated[
        bool, typer.Option(help="Beside it, the published package, installed if it is not there.")
    ] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Only try that all works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Measure this machine: frames a second, codec, first audio, memory. The last line is JSON."""
    logger.remove()
    if demo and checkpoint is not None:
        fail("name --checkpoint or --demo, not both")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with one_line_errors(), Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("starting")

        def tell(line: str) -> None:
            progress.update(task, description=escape(line))
            if not stderr.is_terminal:
                typer.echo(line, err=True)

        try:
            found = run_bench(Asked(checkpoint, demo, device, upstream, quick), tell)
        except KeyboardInterrupt:
            fail("stopped")
    if not as_json:
        Console().print(found.table())
    typer.echo(found.line())


@app.command()
def tune(
    model_dir: ModelDir = None,
    device: Device = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="To measure in.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure what this machine is fastest with; plans then go by it."""
    logger.remove()
    with one_line_errors():
        settings = load_settings(model_dir=model_dir, device=device)
        try:
            is_chosen = tune_here(settings, seconds, as_json, stderr)
        except KeyboardInterrupt:
            fail("stopped; what was chosen before stays")
    if not is_chosen:
        fail("nothing was kept")


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="Folder of the CSV files.")] = Path("metrics"),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to.")] = None,
) -> None:
    """Draw the CSV files of a server as one HTML page and its pictures."""
    with one_line_errors():
        written = write_report(directory, out)
    typer.echo(written.page)


ui_app = typer.Typer(help="A page in the browser, for a server that runs somewhere.")
app.add_typer(ui_app, name="ui", no_args_is_help=True)
UiHost = Annotated[str | None, typer.Option(help="Address of the page; else 127.0.0.1.")]
ApiUrl = Annotated[str | None, typer.Option(help="Where the server is; else API_URL says.")]


@ui_app.command("gradio")
def ui_gradio(
    host: UiHost = None,
    port: Annotated[int | None, typer.Option(help="Port of the page; else 7860.")] = None,
    api_url: ApiUrl = None,
    opens_browser: OpensBrowser = True,
) -> None:
    """Show the Gradio page until stopped."""
    _show(GRADIO, host, port, api_url, opens_browser)


@ui_app.command("streamlit")
def ui_streamlit(
    host: UiHost = None,
    port: Annotated[int | None, typer.Option(help="Port of the page; else 8501.")] = None,
    api_url: ApiUrl = None,
    opens_browser: OpensBrowser = True,
) -> None:
    """Show the Streamlit page until stopped."""
    _show(STREAMLIT, host, port, api_url, opens_browser)


def _show(
    face: Face, host: str | None, port: int | None, api_url: str | None, opens_browser: bool
) -> NoReturn:
    with one_line_errors():
        page = make_page(face, host, port, api_environment(api_url), opens_browser)
    _log("INFO")
    raise typer.Exit(show(page))


engine_app = typer.Typer(help="Other engines, each in an environment of its own.")
app.add_typer(engine_app, name="engine", no_args_is_help=True)
EngineArgument = Annotated[str, typer.Argument(help="fish-speech")]


@engine_app.command("add")
def engine_add(name: EngineArgument) -> None:
    """Install an engine; ENGINE=<name> then speaks through it."""
    with one_line_errors():
        found = add_engine(name, load_settings().data_dir, typer.echo)
    typer.echo(f"{found.name} is ready in {found.folder}: ENGINE={found.name} shoal serve")


@engine_app.command("list")
def engine_list() -> None:
    """Say which engines there are, and how they are."""
    with one_line_errors():
        for found in list_engines(load_settings().data_dir):
            size = f"{found.size_bytes / 2**20:.0f} MiB" if found.size_bytes else ""
            typer.echo(f"{found.name}: {found.state}  {found.package}  {size}  {found.folder}")


@engine_app.command("remove")
def engine_remove(name: EngineArgument) -> None:
    """Delete an engine's environment."""
    with one_line_errors():
        was_there = remove_engine(name, load_settings().data_dir)
    typer.echo(f"{name} is removed." if was_there else f"{name} was not there.")


if __name__ == "__main__":
    app()
