"""The methods of the contract over HTTP, by JSON or the bytes of one item.

A request goes the way of a gRPC call: through `CallInterceptor` and `CodecServicer`, with an
`HttpContext` for gRPC's own. So tokens, limits, turns, metrics, logs and traces are the same.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

import grpc
from aiohttp import web
from google.protobuf.descriptor import ServiceDescriptor

from ..auth.tls import Tls
from ..errors import DeadlinePassedError, InvalidRequestError, LimitError, StoppingError
from ..observability.calls import Observation
from ..observability.metrics import Metrics
from ..rpc.interceptor import CallInterceptor
from ..rpc.servicer import wire_bytes
from ..rpc.status import abort_with, status_message
from ..settings import Limits
from .call import HttpContext, metadata_of, peer_of
from .forms import (
    TAKE_ITEM,
    MediaType,
    parse_json,
    set_form,
    to_bytes,
    to_json,
)
from .parameters import Parameters
from .port import HttpPort
from .request import HttpRequest, RefusedError
from .routes import Route, routes_of, variable_word
from .status import failure, refusal, status_of_item

CONNECTIONS: Final = 256
"""Most connections without a request."""

_IN_LOOP_BYTES: Final = 16 * 1024
"""Most bytes of JSON, or of a message that becomes JSON, that keep the event loop busy."""


class Gateway:
    """A port of HTTP in front of the methods of a service.

    Args:
        service: whose methods have routes.
        interceptor: what calls go through first.
        handlers: gRPC's handlers of the methods.
        observation: of calls whose request cannot be read.
        metrics: counts what is sent.
        limits: of one call.
        tls: serve https.
    """

    def __init__(
        self,
        service: ServiceDescriptor,
        interceptor: CallInterceptor,
        handlers: Any,
        observation: Observation,
        metrics: Metrics,
        limits: Limits,
        tls: Tls | None,
    ) -> None:
        self._interceptor = interceptor
        self._handlers = handlers
        self._observation = observation
        self._metrics = metrics
        self._limits = limits
        self._routes = routes_of(service)
        self._parameters = {
            route.method: Parameters(route.request_type.DESCRIPTOR, route.variables)
            for route in self._routes
        }
        self._port = HttpPort(self._application(), refusal, tls, CONNECTIONS)
        # One: the interpreter does one at a time anyway, and each takes memory that nobody counts.
        self._json = ThreadPoolExecutor(1, "json")
        self._calls: dict[asyncio.Task[web.Response], web.Request] = {}
        self._stopping = False

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> str:
        """Bind and serve; returns the URL. Raises OSError where that is not possible."""
        return await self._port.start(host, port, reuse_port=reuse_port)

    async def leave(self) -> None:
        """Take no more connections, and send away those that are there after their next answer."""
        self._stopping = True
        await self._port.leave()

    async def stop(self, seconds: float) -> None:
        """Let calls finish for so long, cancel the others, and close the port."""
        await self.leave()
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=seconds)
        for call in self._calls:
            call.cancel()
        await self._port.stop()
        self._json.shutdown(wait=False, cancel_futures=True)

    def close_connection(self, peer: str) -> bool:
        """Close the connection of a peer that reads no answer; returns whether there was one."""
        transports = {each.transport for each in self._calls.values() if peer_of(each) == peer}
        for transport in transports - {None}:
            transport.abort()  # type: ignore[union-attr]
        return bool(transports)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._as_json])
        for route in self._routes:
            app.router.add_route(
                route.verb, route.pattern, partial(self._handle, route), expect_handler=_expect
            )
        return app

    @web.middleware
    async def _as_json(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """What aiohttp answers itself, such as 404, as a status; callers from elsewhere refused."""
        try:
            self._check_caller(request)
            response: web.StreamResponse = await handler(request)
        except RefusedError as error:
            response = error.answer
        except web.HTTPException as error:
            response = self._not_a_route(request, error)
        if self._stopping or not request.content.is_eof():
            response.force_close()
        return response

    def _check_caller(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2].lower() != request.host.lower():
            raise RefusedError(HTTPStatus.FORBIDDEN, "pages of other origins may not call this")
        if self._port.lacks_certificate(request):
            raise RefusedError(HTTPStatus.FORBIDDEN, "this server wants a client certificate")

    def _not_a_route(self, request: web.Request, error: web.HTTPException) -> web.Response:
        if error.status == HTTPStatus.NOT_FOUND:
            known = ", ".join(f"{route.verb} {route.path}" for route in self._routes)
            return refusal(error.status, f"no such path; there are {known}")
        allow = error.headers.get("Allow")
        text = f"{request.method} is not allowed here; allowed: {allow}" if allow else error.reason
        return refusal(error.status, text, {"Allow": allow} if allow else None)

    async def _handle(self, route: Route, given: web.Request) -> web.StreamResponse:
        """Answer a request in a task of its own: what a call holds is freed when its task ends."""
        request = HttpRequest(route, given, self._limits.message_bytes)
        call = asyncio.create_task(self._call(route, request))
        self._calls[call] = given
        call.add_done_callback(self._calls.pop)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if request.is_answered and given.transport is not None:
                given.transport.abort()  # in the middle of an answer
            text = "the server is stopping; call again, and another one answers"
            return failure(status_message(StoppingError(text)), {})

    async def _call(self, route: Route, request: HttpRequest) -> web.Response:
        """Answer a request and send the answer."""
        context = HttpContext(
            peer_of(request.given), request.seconds, partial(self._read, route, request)
        )
        try:
            async with asyncio.timeout(request.seconds):
                message = await self._answered(route, request, context)
                response = await self._response(route, request, message, context.headers)
            del message
        except grpc.aio.AbortError:
            assert context.status is not None
            response = failure(context.status, context.headers)
        except TimeoutError:
            late = DeadlinePassedError("the deadline passed before the answer was there")
            response = failure(status_message(late), context.headers)
        if self._stopping or not request.given.content.is_eof():
            response.force_close()
        # In this task, so that the call lasts until its answer was taken.
        request.is_answered = True
        await response.prepare(request.given)
        await response.write_eof()
        return response

    async def _answered(self, route: Route, request: HttpRequest, context: Any) -> Any:
        """The answer of the call.

        Raises AbortError where it ends with a status, TimeoutError where it is late.
        """
        details: Any = SimpleNamespace(
            method=route.full_name, invocation_metadata=metadata_of(request.given.headers)
        )

        async def find(details: Any) -> Any:
            return self._handlers.service(details)

        handler = await self._interceptor.intercept_service(find, details)
        if handler.stream_unary is None:  # it is rejected
            async for _ in handler.stream_stream(None, context):
                pass
        try:
            answer = await handler.stream_unary(None, context)
        except BaseException as error:
            if context.is_read:
                raise  # the method has observed it
            with self._observation.observe(context):
                if isinstance(error, InvalidRequestError | LimitError):
                    await abort_with(context, error)
                raise
        if context.time_remaining() == 0:
            raise TimeoutError  # as the method has observed it
        return answer

    async def _read(self, route: Route, request: HttpRequest) -> Any:
        """The message of a request.

        Raises InvalidRequestError and LimitError.
        """
        message, query = route.request_type(), request.given.query
        if request.is_json:
            if query:
                raise InvalidRequestError("a query goes with bytes; JSON holds all of the request")
            body = await request.body()
            parse = partial(parse_json, body, message, self._limits.items)
            await self._maybe_in_thread(parse, len(body))
            size = message.ByteSize()
            if size > self._limits.message_bytes:
                raise LimitError(
                    f"a message of {size:,} bytes, allowed are {self._limits.message_bytes:,}"
                )
        else:
            for name in route.variables:
                value = request.given.match_info[variable_word(name)]
                self._parameters[route.method].set_path(message, name, value)
            self._parameters[route.method].set_in(message, query)
            set_form(message, request.answer)
            if request.length:
                TAKE_ITEM[route.method](message, await request.body())
            size = request.length
        wire_bytes.set(size)
        return message

    async def _response(
        self, route: Route, request: HttpRequest, message: Any, headers: dict[str, str]
    ) -> web.Response:
        """The HTTP form of a call's answer."""
        results = getattr(message, "results", ())
        statuses = [each.status for each in results if each.HasField("status")]
        if statuses and len(results) == 1:
            return failure(status_of_item(statuses[0]), headers)
        if request.answer is MediaType.JSON:
            body = await self._maybe_in_thread(partial(to_json, message), message.ByteSize())
        elif statuses:
            return failure(status_of_item(statuses[0]), headers)
        else:
            body = to_bytes(message, request.answer)
            headers = {**headers, **_warnings(message)}
        self._metrics.sent(route.method).inc(len(body))
        return web.Response(
            body=body,
            status=HTTPStatus.MULTI_STATUS if statuses else HTTPStatus.OK,
            content_type=request.answer,
            headers={**headers, "X-Content-Type-Options": "nosniff"},
        )

    async def _maybe_in_thread(self, work: Callable[[], Any], size: int) -> Any:
        """Do work on JSON of this size where it keeps the event loop least."""
        if size <= _IN_LOOP_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._json, work)


async def _expect(request: web.Request) -> web.Response | None:
    """Not continued yet: the body is to come once the call may be read."""
    expected = request.headers.get("Expect", "")
    if expected.lower() == "100-continue":
        return None
    return refusal(HTTPStatus.EXPECTATION_FAILED, f"Expect: {expected[:40]!r} is unknown")


def _warnings(message: Any) -> dict[str, str]:
    """What was not taken of the only item, for callers that read no JSON."""
    given = getattr(message.results[0], "warnings", ())
    texts = (f"{each.reason}: {each.message}" for each in given)
    text = "; ".join(texts).encode("ascii", "replace").decode()
    return {"X-Warning": " ".join(text.split())} if text else {}
