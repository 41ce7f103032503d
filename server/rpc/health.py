"""The standard health service.

That of `grpc_health` keeps all who watch a service waiting, a stop too, for one of them that does
not read. Here each of them is told by itself.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Says of each service whether it is served."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()

    def set(self, *services: str, serving: bool) -> None:
        """Note it of these services, and tell those that watch."""
        self._serving.update(dict.fromkeys(services, serving))
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802 (the contract's names)
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> HealthCheckResponse:
        """The status of a service."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return self._answer(request.service)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: Any
    ) -> health_pb2.HealthListResponse:
        """The status of all services."""
        return health_pb2.HealthListResponse(
            statuses={each: self._answer(each) for each in self._serving}
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[HealthCheckResponse]:
        """The status of a service, now and whenever it changes."""
        told = None
        while True:
            changed = self._changed
            answer = self._answer(request.service)
            if answer != told:
                yield answer
                told = answer
            await changed.wait()

    def _answer(self, service: str) -> HealthCheckResponse:
        serving = self._serving.get(service)
        if serving is None:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        states = HealthCheckResponse
        return HealthCheckResponse(status=states.SERVING if serving else states.NOT_SERVING)
