"""Which replica a call of Serve goes to: the one that it names, for the queue has chosen it."""

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from backend.cluster import roster


class NamedReplica(RequestRouter):  # type: ignore[misc] # it has no types here
    """Sends a call to the replica that its argument `to` names, and one without a name, or to one
    that is gone, to any, which then refuses it."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """These are there now, and not about to be ended."""
        super().update_replicas(replicas)
        self._tell()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """It is gone."""
        super().on_replica_actor_died(replica_id)
        self._tell()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The one that it names, or all."""
        wanted: Any = pending_request.kwargs.get("to") if pending_request else None
        named = [each for each in candidate_replicas if each.replica_id.unique_id == wanted]
        return [named or candidate_replicas]

    def _tell(self) -> None:
        there = frozenset(each.unique_id for each in self.curr_replicas)
        roster.tell(self._deployment_id.name, there)
