"""Reject calls before their message is read."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import grpc

from ..admission.overload import OverloadGuard
from ..auth.access import Access
from ..errors import OverloadError, StoppingError, UnauthenticatedError
from ..observability.observation import Observation
from .status import abort_with


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Begins every call; rejects those without a token, during shutdown and under overload."""

    def __init__(
        self, observation: Observation, access: Access | None, overload: OverloadGuard
    ) -> None:
        self._observation = observation
        self._access = access
        self._overload = overload

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Of gRPC: the handler of a call."""
        observed = self._observation.begin(details.method, details.invocation_metadata)
        try:
            if self._access is not None:
                self._access.check(details.method, details.invocation_metadata)
            handler = await continuation(details)
            if handler is not None:
                self._overload.check(details.method, stream=bool(handler.response_streaming))
            return handler
        except (UnauthenticatedError, StoppingError, OverloadError) as error:
            return self._rejecting(error, observed=observed)

    def _rejecting(self, error: Exception, *, observed: bool) -> Any:
        """A handler that never reads a request."""

        async def method(requests: Any, context: Any) -> AsyncIterator[Any]:
            with self._observation.observe(context) if observed else nullcontext():
                await abort_with(context, error)
            yield  # type: ignore[unreachable]  # which makes a generator of this function

        # As a stream: of a unary call gRPC would read and parse the request first.
        return grpc.stream_stream_rpc_method_handler(method)
