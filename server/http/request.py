"""A request of HTTP before it is a call: its headers are checked, and its body is read."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ..errors import InvalidRequestError
from .call import timeout_of
from .forms import ANSWERS, BYTES, TAKE_ITEM, MediaType
from .negotiation import accepted
from .routes import Route
from .status import refusal

_MORE_JSON_BYTES: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RefusedError(Exception):
    """A request that does not become a call."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = refusal(status, message, headers)


class HttpRequest:
    """A request whose headers were found to be in order.

    Raises RefusedError, before anything of its body is read.
    """

    def __init__(self, route: Route, given: web.Request, most_bytes: int) -> None:
        self.given = given
        self.is_answered = False
        self._kind = given.content_type if "Content-Type" in given.headers else "none"
        self.is_json = route.takes_body and self._kind == MediaType.JSON
        self.length = self._checked_length(route, most_bytes) if route.takes_body else 0
        answers: Sequence[MediaType] = ANSWERS.get(route.method, (MediaType.JSON,))
        if self.is_json or not route.takes_body:
            answers = (MediaType.JSON,)
        chosen = accepted(given.headers.getall("Accept", []), answers)
        if chosen is None:
            text = f"the answers of this request are {', '.join(answers)}; Accept names none"
            raise RefusedError(HTTPStatus.NOT_ACCEPTABLE, text)
        self.answer = MediaType(chosen)
        try:
            self.seconds = timeout_of(given.headers)
        except ValueError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _checked_length(self, route: Route, most_bytes: int) -> int:
        length, takes_item = self.given.content_length, route.method in TAKE_ITEM
        if length is None and not takes_item and not self.given.body_exists:
            length = 0
        if length is None:
            text = "state the body's length in Content-Length; chunked bodies are not taken"
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, text)
        if length == 0 and not self.is_json and not takes_item:
            return 0
        allowed = [MediaType.JSON, *(BYTES if takes_item else ())]
        if self._kind not in allowed:
            text = f"Content-Type is {self._kind}; allowed: {', '.join(allowed)}"
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        if "Content-Encoding" in self.given.headers:
            text = "Content-Encoding: compressed bodies are not taken"
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        # Of JSON, bytes are four characters for three.
        most = most_bytes * 4 // 3 + _MORE_JSON_BYTES if self.is_json else most_bytes
        if length > most:
            text = f"a body of {length:,} bytes; allowed are {most:,}"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        return length

    async def body(self) -> bytes:
        """The body. Raises InvalidRequestError where it ends early."""
        if self.given.headers.get("Expect", "").lower() == "100-continue":
            assert self.given.transport is not None
            self.given.transport.write(_CONTINUE)
        body = bytearray()
        try:
            async for piece in self.given.content.iter_any():
                body += piece
        except web.RequestPayloadError as error:
            raise InvalidRequestError(f"the body cannot be read: {error}") from None
        return bytes(body)
