"""The way to the replicas through Serve: calls of a handle, each to the one that it names."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, NoReturn

from loguru import logger
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from backend.cluster import roster
from backend.cluster.nodes import NODES_WAIT_S
from backend.cluster.told import Described, Pressure, Report
from backend.errors import EngineDown, EngineFailed, ShoalError


class RayReplicas:
    """The `told.Replicas` of one deployment."""

    def __init__(self, handle: DeploymentHandle, ingress: str) -> None:
        """`ingress` is who asks."""
        self._handle, self._streaming = handle, handle.options(stream=True)
        self._ingress = ingress

    @property
    def kind(self) -> str:
        """The deployment's name."""
        return str(self._handle.deployment_name)

    def watch(self, told: Callable[[frozenset[str]], None]) -> None:
        """Tell which replicas there are, on this event loop."""
        loop = asyncio.get_running_loop()

        def hear(names: frozenset[str]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody listens
                loop.call_soon_threadsafe(told, names)

        roster.watch(self.kind, hear)

    async def wake(self) -> None:
        """Have one started where there is none: a call that waits makes Serve do it."""
        await self.describe("")

    async def describe(self, replica: str) -> Described:
        """What it is; of any where `replica` is ""."""
        described: Described = await self._call(replica, "describe")
        return described

    async def report(self, replica: str, pressure: Pressure) -> Report:
        """How it is."""
        report: Report = await self._call(replica, "report", pressure)
        return report

    async def tell(self, replica: str, message: bytes) -> bytes:
        """Ask what is no request."""
        answer: bytes = await self._call(replica, "tell", message)
        return answer

    async def ask(self, replica: str, message: bytes) -> AsyncGenerator[bytes, None]:
        """The answer to a request, in blocks."""
        response = self._streaming.ask.remote(message, self._ingress, to=replica)
        has_come = False
        try:
            async for block in response:
                has_come = True
                yield block
            if not has_come:
                raise _gone(replica)
        except (RayError, DeploymentUnavailableError) as error:
            _raise(replica, error)
        finally:
            response.cancel()  # of one that is over, nothing

    async def _call(self, replica: str, method: str, *arguments: Any) -> Any:
        try:
            answer = await getattr(self._handle, method).remote(*arguments, to=replica)
        except (RayError, DeploymentUnavailableError) as error:
            _raise(replica, error)
        if answer is None:
            raise _gone(replica)
        return answer


async def expositions(ingresses: DeploymentHandle) -> dict[str, bytes]:
    """What each of `ingresses` tells Prometheus, by its name; of those that do not answer, none."""
    try:
        asked = ingresses.broadcast("exposition")
        told = await asked.results_async(timeout_s=NODES_WAIT_S, return_exceptions=True)
    except (RayError, DeploymentUnavailableError, TimeoutError) as error:
        logger.warning("The other ingresses tell Prometheus nothing ({}).", type(error).__name__)
        return {}
    return dict(each for each in told if not isinstance(each, BaseException))


def _gone(replica: str) -> EngineDown:
    """Another has got its call, and not taken it."""
    return EngineDown(f"The replica {replica} has died. Try again shortly.")


def _raise(replica: str, error: Exception) -> NoReturn:
    cause = getattr(error, "cause", None)
    if isinstance(cause, ShoalError):  # what the replica itself has raised
        raise cause from None
    if isinstance(error, RayActorError | DeploymentUnavailableError):
        logger.debug("The replica {}: {}", replica, error)
        raise _gone(replica) from None
    raise EngineFailed(f"The replica {replica} failed ({type(error).__name__}).") from error
