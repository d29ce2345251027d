"""How a take was made, so that it can be made again: its figures, and as a command."""

import json
import shlex
from typing import Any

from ui.setup import Setup
from ui.speaking.take import Take


def figures(take: Take) -> list[tuple[str, str]]:
    """What the take cost, as label and value; what nobody measured is left out."""
    told, record = take.record.figures, take.record
    rows = [
        ("Seed", _told(told.get("seed", record.plan.get("seed")))),
        ("Voice", record.fields.get("voice") or ("a recording" if record.has_recording else "")),
        ("Length", _unit(take.audio_s, "s")),
        ("Latency", _unit(told.get("latency_s"), "s")),
        ("First sound after", _unit(told.get("first_audio_s"), "s")),
        ("Waited", _unit(told.get("queue_s"), "s")),
        ("RTF", _unit(told.get("rtf"))),
        ("Tokens/s", _unit(told.get("tokens_per_s"))),
        ("Worker's memory", _unit(told.get("worker_peak_memory_mb"), "MB")),
        ("GPU memory", _unit(told.get("peak_vram_mb") or None, "MB")),
        ("GPU use", _unit(told.get("gpu_util_pct") or None, "%")),
        ("Said again by itself", _told(told.get("retries") or None)),
        ("Engine", _told(told.get("engine", record.plan.get("engine")))),
        ("Plan", _told(told.get("strategy", record.plan.get("strategy")))),
        ("Request", _told(told.get("request_id", record.plan.get("request_id")))),
    ]
    return [(label, value or "default") for label, value in rows if value or label == "Voice"]


def commands(take: Take, setup: Setup) -> dict[str, str]:
    """The same speech as a command for curl, Python and `shoal say`.

    A key is never told: the commands take it from the environment.
    """
    fields = {"response_format": "wav", **take.record.fields}
    seed = take.record.figures.get("seed", take.record.plan.get("seed"))
    if seed is not None:
        fields["seed"] = seed
    has_key, has_recording = bool(setup.api_key), take.record.has_recording
    return {
        "curl": _curl(setup.api_url, fields, has_key, has_recording),
        "Python": _python(setup.api_url, fields, has_key, has_recording),
        **({} if "dialogue" in fields else {"shoal say": _say(fields, has_recording)}),
    }


def _curl(url: str, fields: dict[str, Any], has_key: bool, has_recording: bool) -> str:
    key = '-H "Authorization: Bearer $API_KEY" ' if has_key else ""
    out = f"{url}/tts -o speech.{fields['response_format']}"
    if "dialogue" in fields:
        body = shlex.quote(json.dumps(fields, ensure_ascii=False))
        return f"curl -f {key}--json {body} {out}"
    parts = [f"--form-string {shlex.quote(f'{n}={_text(v)}')}" for n, v in fields.items()]
    if has_recording:
        parts.append('-F "speaker_file=@voice.wav"')
    return f"curl -f {key}{' '.join(parts)} {out}"


def _python(url: str, fields: dict[str, Any], has_key: bool, has_recording: bool) -> str:
    lines = ["import httpx"]
    if has_key:
        lines.append("import os")
    lines += ["", f"fields = {fields!r}"]
    if has_recording:
        lines.insert(0, "import base64")
        lines.append(
            'fields["speaker_file"] = base64.b64encode(open("voice.wav", "rb").read()).decode()'
        )
    headers = ', headers={"Authorization": f"Bearer {os.environ[\'API_KEY\']}"}' if has_key else ""
    lines += [
        f'answer = httpx.post("{url}/tts", json=fields, timeout=None{headers})',
        "answer.raise_for_status()",
        f'open("speech.{fields["response_format"]}", "wb").write(answer.content)',
    ]
    return "\n".join(lines)


def _say(fields: dict[str, Any], has_recording: bool) -> str:
    words = ["shoal", "say", shlex.quote(str(fields.get("text", "")))]
    for name in ("voice", "prompt_text", "language", "temperature", "top_p"):
        if fields.get(name) not in (None, ""):
            words.append(f"--{name.replace('_', '-')} {shlex.quote(_text(fields[name]))}")
    for name in ("repetition_penalty", "seed", "speed"):
        if fields.get(name) is not None:
            words.append(f"--{name.replace('_', '-')} {fields[name]}")
    if has_recording:
        words.append("--speaker-file voice.wav")
    return " ".join([*words, f"-o speech.{fields['response_format']}"])


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _told(value: Any) -> str:
    return "" if value is None else str(value)


def _unit(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{shown} {unit}".rstrip()
