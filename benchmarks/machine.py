"""One machine, whole: a real server on it, its answers about itself, and what speaking took.

    python -m benchmarks.machine --model-dir CHECKPOINT --out FOLDER

writes every answer as JSON and the server's CSV files to FOLDER; prints a table, and one JSON line
last. A randomly initialised checkpoint does not end by itself: it speaks to its frame limit.
"""

import argparse
import asyncio
import io
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from tests.e2e.serving import serving

SENTENCE = "The quick brown fox jumps over the lazy dog and runs away from all of it. "
ABOUT = ("/hardware", "/health", "/system-status", "/metrics")
TIMEOUT_S = 300.0


def text_of(characters: int) -> str:
    """So many characters of English."""
    return (SENTENCE * math.ceil(characters / len(SENTENCE)))[:characters].strip()


def recording(seconds: float) -> bytes:
    """Something to encode as a reference: noise that swells four times a second."""
    time_s = np.arange(int(seconds * 16_000)) / 16_000
    noise = np.random.default_rng(0).standard_normal(time_s.size) * 0.1
    file = io.BytesIO()
    soundfile.write(file, noise * (1.2 + np.sin(2 * np.pi * 4 * time_s)), 16_000, format="WAV")
    return file.getvalue()


def figures(answer: httpx.Response) -> dict[str, Any]:
    """What the headers of a spoken answer say."""
    answer.raise_for_status()
    headers = answer.headers
    names = {
        "latency_ms": "X-Latency-Ms",
        "first_audio_ms": "X-Time-To-First-Audio-Ms",
        "audio_s": "X-Audio-Duration-S",
        "rtf": "X-RTF",
        "tokens": "X-Generated-Tokens",
        "tokens_per_s": "X-Tokens-Per-Second",
        "peak_vram_mb": "X-Peak-VRAM-Mb",
        "gpu_util_pct": "X-GPU-Util-Pct",
        "segments": "X-Segments",
    }
    return {name: float(headers[header]) for name, header in names.items()}


async def measure(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is asked of the server at `url`."""
    out: Path = arguments.out
    found: dict[str, Any] = {"alone": [], "estimates": []}
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:

        def keep(name: str, value: Any) -> None:
            (out / f"{name}.json").write_text(json.dumps(value, indent=2, ensure_ascii=False))

        async def tell(path: str, name: str) -> None:
            keep(name, (await http.get(path)).json())

        async def speak(characters: int, **more: Any) -> dict[str, Any]:
            fields = {"text": text_of(characters), "seed": "1", "temperature": "0.9"}
            answer = await http.post("/tts", data=fields, **more)
            return {"characters": characters, **figures(answer)}

        async def together(count: int) -> dict[str, Any]:
            began_s = time.perf_counter()
            spoken = await asyncio.gather(*(speak(arguments.characters[0]) for _ in range(count)))
            total_s = time.perf_counter() - began_s
            tokens = sum(each["tokens"] for each in spoken)
            return {"requests": count, "tokens_per_s": tokens / total_s, "total_s": total_s}

        for path in ABOUT[:3]:
            await tell(path, f"before{path.replace('/', '-')}")
        for characters in arguments.characters:
            asked = await http.post("/estimate-memory", data={"text": text_of(characters)})
            found["estimates"].append(asked.json()["estimate"])
        keep("estimate-memory", found["estimates"])
        for characters in arguments.characters:
            found["alone"].append(await speak(characters))
        found["reference"] = await speak(
            arguments.characters[0], files={"speaker_file": ("voice.wav", recording(8.0))}
        )
        found["together"] = [await together(count) for count in arguments.together]
        keep("optimize-for-hardware", (await http.post("/optimize-for-hardware")).json())
        keep("cache-clear", (await http.post("/cache/clear")).json())
        for path in ABOUT:
            await tell(path, f"after{path.replace('/', '-')}")
        (out / "metrics.prom").write_text((await http.get("/metrics/prometheus")).text)
    return found


def table(found: dict[str, Any]) -> None:
    """Print what was measured, one row a request."""
    print("| | characters | tokens/s | RTF | first audio ms | peak VRAM MB | GPU % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in found["alone"]:
        cells = [
            *(f"{row['characters']}", f"{row['tokens_per_s']:.1f}", f"{row['rtf']:.3f}"),
            *(f"{row['first_audio_ms']:.0f}", f"{row['peak_vram_mb']:.0f}"),
            f"{row['gpu_util_pct']:.0f}",
        ]
        print("| alone | " + " | ".join(cells) + " |")
    for row in found["together"]:
        print(f"together: {row['requests']} requests, {row['tokens_per_s']:.0f} tokens/s in all")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--characters", type=int, nargs="+", default=[40, 80, 120, 160, 200])
    parser.add_argument("--together", type=int, nargs="*", default=[4, 16])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    environment = {"SHOAL_METRICS": "true", "SHOAL_METRICS_DIR": str(arguments.out / "metrics")}
    if arguments.model_dir:
        environment["MODEL_DIR"] = str(arguments.model_dir)
    with serving(**environment) as served:
        try:
            found = asyncio.run(measure(served.url, arguments))
        finally:
            (arguments.out / "server.log").write_text("".join(served.log))
    table(found)
    median = statistics.median(row["tokens_per_s"] for row in found["alone"])
    print(json.dumps({"median_tokens_per_s": median, **found}))


if __name__ == "__main__":
    main()
