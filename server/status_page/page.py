"""The port of operators: metrics for Prometheus, a health probe, and the status page.

The page is served from the package and needs nothing else. An image dropped on it goes the way of
any other: through the limits, the token and the queue of the server.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from aiohttp import web

import hvae_codec
from hvae_codec.v1 import codec_pb2

from ..auth.access import Access
from ..auth.tls import Tls
from ..errors import InvalidRequestError, UnauthenticatedError
from ..http.port import HttpPort
from ..http.status import http_status
from ..observability.calls import CallContext, request_id_of, set_current_call
from ..observability.logs import event
from ..observability.metrics import CONTENT_TYPE, Metrics
from ..rpc.status import status_of
from .uploads import Uploads

_logger = logging.getLogger(__name__)

Evaluate = Callable[[codec_pb2.EvaluateRequest], Awaitable[codec_pb2.EvaluateResponse]]

_STATIC: Final = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_UPLOAD_TYPE: Final = "application/octet-stream"
"""Forces a CORS preflight, which is never answered: blocks CSRF."""

_ANSWER_SECONDS: Final = 120.0
CONNECTIONS: Final = 64
"""Most connections without a request."""


class StatusPage:
    """An HTTP server in the event loop of the gRPC server.

    Args:
        metrics: what it shows.
        evaluate: the call of this name.
        is_serving: whether the health service says SERVING.
        most_bytes: largest image file, in bytes.
        access: whose tokens are wanted for images; metrics want none.
        tls: serve https.
    """

    def __init__(
        self,
        metrics: Metrics,
        evaluate: Evaluate,
        is_serving: Callable[[], bool],
        *,
        most_bytes: int,
        access: Access | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._metrics = metrics
        self._evaluate_call = evaluate
        self._is_serving = is_serving
        self._most_bytes = most_bytes
        self._access = access
        self._uploads = Uploads()
        self._port = HttpPort(self._application(), _not_seen, tls, CONNECTIONS)

    async def start(self, host: str, port: int) -> str:
        """Bind and serve; returns the page's URL. Raises OSError where that is not possible."""
        return await self._port.start(host, port)

    def _application(self) -> web.Application:
        async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(_HEADERS)

        app = web.Application(client_max_size=self._most_bytes)
        app.on_response_prepare.append(add_headers)
        files = resources.files(__package__)
        for path, name in _STATIC.items():
            app.router.add_get(path, _static(name, files.joinpath(name).read_bytes()))
        app.router.add_get("/metrics", self._text)
        app.router.add_get("/live", self._live)
        app.router.add_get("/models", self._list)
        app.router.add_get("/healthz", self._health)
        app.router.add_post("/evaluate", self._evaluate)
        return app

    async def stop(self) -> None:
        """Close the port."""
        await self._port.stop()

    async def _text(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"serving": self._is_serving(), **self._metrics.live()})

    async def _list(self, _: web.Request) -> web.Response:
        models = [
            {"name": info.name, "quality": info.quality, "continuous": info.continuous}
            for info in hvae_codec.models()
        ]
        answer = {"models": models, "token": self._access is not None, "bytes": self._most_bytes}
        return web.json_response(answer)

    async def _health(self, _: web.Request) -> web.Response:
        if self._is_serving():
            return web.Response(text="SERVING\n")
        return web.Response(text="NOT_SERVING\n", status=HTTPStatus.SERVICE_UNAVAILABLE)

    async def _evaluate(self, request: web.Request) -> web.Response:
        """The image in the body, with `model` and `quality` of the query, there and back."""
        began = time.perf_counter()
        response = await self._evaluated(request)
        event(
            _logger,
            logging.INFO,
            "page",
            method="Evaluate",
            status=response.status,
            seconds=round(time.perf_counter() - began, 6),
            peer=request.remote,
        )
        return response

    async def _evaluated(self, request: web.Request) -> web.Response:
        if request.content_type != _UPLOAD_TYPE:
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {_UPLOAD_TYPE}")
        if request.content_length is not None and request.content_length > self._most_bytes:
            return _refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._most_bytes:,} bytes"
            )
        if self._port.lacks_certificate(request):
            return _refused(HTTPStatus.FORBIDDEN, "this server wants a client certificate")
        try:
            with self._admitted(request) as caller:
                content = await self._uploads.read(request, caller)
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._evaluate_call(_request(request.query, content))
                response = web.json_response(_answer(answer))
                return await self._uploads.send(request, caller, response)
        except web.HTTPException as error:
            return _refused(HTTPStatus(error.status), f"at most {self._most_bytes:,} bytes")
        except UnauthenticatedError:
            return _refused(HTTPStatus.UNAUTHORIZED, "this server wants a token that it knows")
        except TimeoutError:
            return _refused(HTTPStatus.GATEWAY_TIMEOUT, "that took too long")
        except Exception as error:
            status = status_of(error)
            return _refused(http_status(status.code.value[0]), str(status.details))

    @contextmanager
    def _admitted(self, request: web.Request) -> Iterator[str | None]:
        """Count the image to what its caller, a token or host, has in use."""
        call = CallContext("Evaluate", request_id_of(()), owner=request.remote)
        set_current_call(call)
        if self._access is None:
            with self._uploads.one(call.owner):
                yield call.owner
            return
        token = self._access.token_of(request.headers.getall("Authorization", []))
        call.token = call.owner = token.name
        with self._uploads.one(call.owner), self._access.quota_of(token).taken(1):
            yield call.owner


def _static(name: str, content: bytes) -> Any:
    kind = _TYPES[name.rpartition(".")[2]]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return answer


def _not_seen(status: HTTPStatus, message: str) -> web.Response:
    return web.Response(status=status, text=f"{message}\n")


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _request(query: Any, content: bytes) -> codec_pb2.EvaluateRequest:
    selector = codec_pb2.ModelSelector(name=query.get("model", "auto"))
    if quality := query.get("quality"):
        try:
            selector.fine_quality = float(quality)
        except ValueError:
            raise InvalidRequestError(f"quality: a number, got {quality[:20]!r}") from None
    return codec_pb2.EvaluateRequest(
        model=selector,
        image=codec_pb2.Image(file=content),
        format=codec_pb2.IMAGE_FORMAT_PNG,
    )


def _answer(response: codec_pb2.EvaluateResponse) -> dict[str, Any]:
    image = base64.b64encode(response.decoded.file).decode("ascii")
    return {
        "model": response.model.name,
        "quality": response.model.quality,
        "bytes": len(response.encoded),
        "payload_bytes": response.payload_bytes,
        "rates_nats": list(response.rates_nats),
        "psnr_db": response.psnr_db if response.HasField("psnr_db") else None,
        "image": f"data:image/png;base64,{image}",
    }
