"""A local S3, moto's server, for tests of what servers share."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEY, SECRET = "AKIDOFTHETESTS", "5ecretOfTheTests"


class S3:
    """It, which can be stopped and go on with what it had; the environment leads s3fs there."""

    def __init__(self) -> None:
        self._server: Any = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Answer, at the same port as before."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        """Answer nothing."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def bucket(self) -> str:
        """The name of a new one."""
        name = f"b{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """Beside s3fs, to look at what is there and to put there what is not ours."""
        return boto3.client("s3", region_name="us-east-1", endpoint_url=self.url)

    def keys(self, bucket: str) -> list[str]:
        """What is in a bucket."""
        found = self.client().list_objects_v2(Bucket=bucket).get("Contents", ())
        return [each["Key"] for each in found]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def local_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """One, until the block ends."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = S3()
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
    try:
        yield found
    finally:
        found.stop()
