"""The HTTP status of every gRPC status, and its body: a google.rpc.Status as JSON."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2

from hvae_codec.grpc_error_info import ERROR_DOMAIN
from hvae_codec.v1 import codec_pb2

CLIENT_CLOSED_REQUEST: Final = 499

_HTTP: Final[Mapping[int, int]] = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: CLIENT_CLOSED_REQUEST,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
}
"""As google/rpc/code.proto publishes it."""

_CODE: Final[Mapping[int, int]] = {
    HTTPStatus.UNAUTHORIZED: code_pb2.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: code_pb2.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: code_pb2.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: code_pb2.UNIMPLEMENTED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: code_pb2.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: code_pb2.DEADLINE_EXCEEDED,
    CLIENT_CLOSED_REQUEST: code_pb2.CANCELLED,
}
"""Of requests that are refused before they are a call; INVALID_ARGUMENT of any other."""


def http_status(code: int) -> int:
    """The HTTP status of a gRPC status code's number; 500 of one that is unknown."""
    return _HTTP.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer to a request that is no call."""
    body = status_pb2.Status(code=_CODE.get(status, code_pb2.INVALID_ARGUMENT), message=message)
    return _response(body, status, headers or {})


def failure(status: status_pb2.Status, headers: Mapping[str, str]) -> web.Response:
    """The answer of a call that ended with this status."""
    more = dict(headers)
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            seconds = retry.retry_delay.ToTimedelta().total_seconds()
            more["Retry-After"] = str(max(1, math.ceil(seconds)))
    if status.code == code_pb2.UNAUTHENTICATED:
        more["WWW-Authenticate"] = "Bearer"
    return _response(status, http_status(status.code), more)


def status_of_item(item: codec_pb2.Status) -> status_pb2.Status:
    """The status of a call whose only item has this one."""
    status = status_pb2.Status(code=item.code, message=item.message)
    if item.reason:
        info = error_details_pb2.ErrorInfo(reason=item.reason, domain=ERROR_DOMAIN)
        status.details.add().Pack(info)
    return status


def _response(body: Any, status: int, headers: Mapping[str, str]) -> web.Response:
    text = json_format.MessageToJson(body, indent=None) + "\n"
    return web.Response(
        status=status, text=text, content_type="application/json", headers=dict(headers)
    )
