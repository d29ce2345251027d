"""The README's configuration of nginx, before a real server: TLS, streams, WebSockets, limits."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from backend.core import MIB
from tests.documents import text_of
from tests.e2e.serving import serving

NGINX = shutil.which("nginx") or ""
OPENSSL = shutil.which("openssl") or ""
HOST = "voice.example.org"
KEY = "long-random-key"
BEARER = {"Authorization": f"Bearer {KEY}"}
TEXT = "The children walked home along the river. Nobody said a word until it was dark. " * 3

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (NGINX and OPENSSL), reason="no nginx and openssl on the PATH"),
    pytest.mark.skipif(sys.platform == "win32", reason="nginx runs on Windows otherwise"),
]


@dataclass(frozen=True)
class Proxy:
    """nginx before a server."""

    port: int
    trusts: ssl.SSLContext
    upstream: str
    """host:port of the server."""

    def live(self, origin: str) -> ClientConnection:
        """A WebSocket that a page of `origin` opens."""
        return connect(
            f"wss://127.0.0.1:{self.port}/v1/audio/stream",
            ssl=self.trusts,
            additional_headers=BEARER,
            origin=Origin(origin),
        )

    def client(self) -> httpx.Client:
        """It reaches the proxy as `HOST`, as browsers would."""
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": HOST, **BEARER},
            verify=self.trusts,
            timeout=240,
        )


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={HOST}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    with serving(
        SHOAL_ALLOWED_HOSTS=HOST,
        SHOAL_FORWARDED_ALLOW_IPS="127.0.0.1",
        SHOAL_API_KEYS=f"anna:{KEY}",
        SHOAL_RATE_LIMIT_PER_MINUTE="60",
    ) as server:
        upstream = server.url.removeprefix("http://")
        config = configuration(folder, port, upstream)
        command = [NGINX, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)]
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        process = subprocess.Popen(command)
        try:
            wait_for(port, process)
            yield Proxy(port, ssl.create_default_context(cafile=str(certificate)), upstream)
        finally:
            process.terminate()
            process.wait(30)


def configuration(folder: Path, port: int, upstream: str) -> Path:
    """What the README shows, at this port, before this server, with files of the test."""
    (shown,) = re.findall(r"^```nginx\n(.*?)^```$", text_of("README.md"), re.MULTILINE | re.DOTALL)
    for told, ours in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        (f"/etc/ssl/{HOST}.pem", str(folder / "cert.pem")),
        (f"/etc/ssl/{HOST}.key", str(folder / "key.pem")),
        ("http://127.0.0.1:8000", f"http://{upstream}"),
    ):
        assert told in shown
        shown = shown.replace(told, ours)
    temporary = "\n".join(
        f"{kind}_temp_path {folder / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'pid'};\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}\n{shown}\n}}\n"
    )
    return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            time.sleep(0.02)  # another program's port: nothing tells when it listens
        else:
            return
    raise RuntimeError(f"nginx ended with {process.returncode}")


def test_a_stream_arrives_as_it_is_made(proxy: Proxy) -> None:
    long = TEXT * 8  # a fast machine speaks a second of it in some hundredths
    form = {"text": long, "long_text": "split", "stream": "events", "response_format": "pcm"}
    arrived: list[float] = []
    with proxy.client() as http, http.stream("POST", "/tts", data=form) as answer:
        assert answer.status_code == 200
        arrived.extend(
            time.monotonic() for line in answer.iter_lines() if line.startswith("event: audio")
        )
    assert len(arrived) > 6
    # A proxy that held it back would hand all of it over at once.
    assert len({round(moment, 1) for moment in arrived}) > 3


def test_a_websocket_speaks(proxy: Proxy) -> None:
    heard = b""
    kinds = []
    with proxy.live(f"https://127.0.0.1:{proxy.port}") as ws:
        ws.send(json.dumps({"type": "text", "text": "Hello from behind a proxy."}))
        ws.send(json.dumps({"type": "end"}))
        for message in ws:
            if isinstance(message, bytes):
                heard += message
            else:
                kinds.append(json.loads(message)["type"])
    assert kinds[-1] == "done"
    assert len(heard) > 10_000


def test_a_page_of_another_origin_opens_no_websocket(proxy: Proxy) -> None:
    with pytest.raises(InvalidStatus) as refused:
        proxy.live("https://evil.example")
    assert refused.value.response.status_code == 403


def test_keys_and_sizes_hold(proxy: Proxy) -> None:
    with proxy.client() as http:
        form = {"text": "Hello."}
        assert http.post("/tts", data=form, headers={"Authorization": ""}).status_code == 401
        too_large = http.post("/tts", files={"speaker_file": ("a.wav", bytes(33 * MIB))})
        assert too_large.status_code == 413
        assert "nginx" in too_large.text
        recording = {"speaker_file": ("a.wav", bytes(21 * MIB))}
        refused = http.post("/tts", data=form, files=recording)
        assert refused.status_code == 413
        assert "recording" in refused.json()["detail"]


def test_a_stream_is_not_held_back_by_a_proxy_that_buffers(proxy: Proxy, tmp_path: Path) -> None:
    """nginx without the README's `proxy_buffering off`, and with gzip: it keeps all of a stream to
    its end unless the answer says that it must not."""
    front = free_port()
    command = [NGINX, "-e", str(tmp_path / "error.log"), "-p", str(tmp_path), "-c"]
    process = subprocess.Popen([*command, str(buffering(tmp_path, front, proxy.upstream))])
    asked: dict[str, dict[str, object]] = {
        "/tts": {"text": TEXT, "stream": True, "response_format": "mp3"},
        "/v1/audio/speech": {"model": "x", "voice": "alloy", "input": TEXT, "stream": True},
        "/v1/tts": {"text": TEXT, "streaming": True, "format": "mp3"},
    }
    headers = BEARER | {"Accept-Encoding": "gzip"}
    try:
        wait_for(front, process)
        for path, body in asked.items():
            url = f"http://127.0.0.1:{front}{path}"
            with httpx.stream("POST", url, json=body, headers=headers, timeout=240) as answer:
                assert answer.status_code == 200
                pieces = answer.iter_raw()  # dropped, it would close the connection
                assert next(pieces)
                load = httpx.get(f"http://{proxy.upstream}/health").json()["worker"]
                assert load["running"] > 0, f"{path} is held back"
                assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    finally:
        process.terminate()
        process.wait(30)


def buffering(folder: Path, port: int, upstream: str) -> Path:
    """A configuration that says nothing of buffers, and compresses."""
    temporary = "\n".join(
        f"{kind}_temp_path {folder / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "buffering.conf"
    file.write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'pid'};\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}\nserver {{\nlisten 127.0.0.1:{port};\n"
        "gzip on;\ngzip_proxied any;\ngzip_types audio/mpeg;\ngzip_buffers 2 1m;\n"
        "proxy_http_version 1.1;\n"
        f"location / {{\nproxy_pass http://{upstream};\n}}\n}}\n}}\n"
    )
    return file
