"""One connection of HTTP: its heads are bounded, and requests are taken one after another."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError

_logger = logging.getLogger(__name__)

HEAD_BYTES: Final = 16 * 1024
"""Most bytes of the head of a request, as gRPC bounds its metadata."""

_READ_BYTES: Final = 64 * 1024
_BUFFER_BYTES: Final = 32 * 1024
"""Of a connection whose body is not read yet; aiohttp holds up to twice that."""

_FIELDS: Final = 48
_FIELD_BYTES: Final = 8 * 1024

COMING_HEAD_BYTES: Final = 3 * (HEAD_BYTES + _READ_BYTES)
"""Memory of a head that is still coming; the parser takes three times its bytes."""

_MOST_SHOWN: Final = 100

Refuse = Callable[[HTTPStatus, str], web.Response]


class Connection(web.RequestHandler):
    """Of aiohttp, whose tasks take the requests.

    Args:
        server: of aiohttp.
        refused: makes the answer to bytes that are no request.
        idle_seconds: until a connection without a request is closed.
    """

    def __init__(self, server: web.Server, refused: Refuse, idle_seconds: float) -> None:
        super().__init__(
            server,
            loop=server._loop,
            logger=_logger,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=idle_seconds,
            read_bufsize=_BUFFER_BYTES,
            max_headers=_FIELDS,
            max_field_size=_FIELD_BYTES,
            auto_decompress=False,
        )
        self._refused = refused
        self._body: StreamReader | None = None  # of the last request
        self._head_bytes = 0  # of one that is still coming
        self._unanswered = False
        self.busy = False
        self.is_leaving = False
        self.idle_since = self._loop.time()

    def connection_made(self, transport: Any) -> None:
        """Of asyncio."""
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        super().connection_made(transport)

    def begin(self) -> None:
        """A request is taken."""
        self.busy = self._unanswered = True
        if self._messages:
            self._leave_after(0)

    def begin_answer(self, response: web.StreamResponse) -> None:
        """An answer is about to be sent."""
        self._unanswered = False
        if self.is_leaving:
            response.force_close()
            response.headers["Connection"] = "close"

    def end(self) -> None:
        """The request is answered."""
        self.busy = self._unanswered = False
        self.idle_since = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Of asyncio. A request that comes before the answer to another has begun is not taken: it
        would stop the reading, and the caller's leaving would not be seen.
        """
        if self.is_leaving or self._force_close:
            return
        in_head = self._body is None or self._body.is_eof()
        if data and in_head and self._unanswered:
            self._leave_after(0)
            return
        before = self._request_count
        try:
            super().data_received(data)
        except Exception as error:  # of the parser, which expects others
            self._reject(HTTPStatus.BAD_REQUEST, error)
            return
        if self._request_count > before and self._messages:
            self._body = self._messages[-1][1]
            self._head_bytes = 0
            most = 0 if self._unanswered else 1
            if len(self._messages) > most:
                self._leave_after(most)
        elif in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, None)

    def _leave_after(self, requests: int) -> None:
        """Forget all but so many requests, and close once they are answered. What still comes is
        dropped, but read: so the end of the connection is seen.
        """
        while len(self._messages) > requests:
            self._messages.pop()
        self.is_leaving = True
        self.close()
        self._parser = None
        if self.transport is not None:
            self.transport.resume_reading()

    def _reject(self, status: HTTPStatus, error: Exception | None) -> None:
        """Close a connection whose bytes the parser does not take, with an answer where none is
        under way.
        """
        self._log(status, error)
        transport = self.transport
        if transport is not None and not self._messages and not self._request_in_progress:
            answer = self._refused(status, _text(status))
            body = answer.body
            assert isinstance(body, bytes)
            lines = (
                f"HTTP/1.1 {status.value} {status.phrase}",
                f"Content-Type: {answer.headers['Content-Type']}",
                f"Content-Length: {len(body)}",
                "Connection: close",
            )
            transport.write("\r\n".join((*lines, "", "")).encode() + body)
            self.force_close()
        else:
            self._leave_after(len(self._messages))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Of aiohttp: the answer to bytes that are no request."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        code = HTTPStatus(status)
        self._log(code, exc)
        # The caller alone hears what the parser says, which repeats bytes of the request.
        reason = exc.message.partition("\n")[0][:_MOST_SHOWN]
        answer = self._refused(code, f"malformed HTTP request: {reason}")
        answer.force_close()
        return answer

    def _log(self, status: HTTPStatus, error: BaseException | None) -> None:
        """A line without a byte of the request, which may hold a token."""
        # Of bytes of another protocol there may be many.
        level = logging.DEBUG if isinstance(error, BadHttpMethod) else logging.INFO
        kind = type(error).__name__ if error is not None else "LongHead"
        host = self.peername[0] if self.peername else "unknown"
        _logger.log(level, "malformed HTTP request from %s: %s, %d", host, kind, status)


def _text(status: HTTPStatus) -> str:
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return f"the headers have more than {HEAD_BYTES:,} bytes"
    return "malformed HTTP request"
