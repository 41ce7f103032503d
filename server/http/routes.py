"""The routes of the HTTP port, as the contract's google.api.http options declare them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

_VARIABLE: Final = re.compile(r"\{([a-z_.]+)\}")


@dataclass(frozen=True)
class Route:
    """One method. `path` may hold names of fields in braces, whose values the path gives;
    `takes_body`: whether the body is the request.
    """

    method: str
    verb: str
    path: str
    takes_body: bool
    request_type: type[Any]
    full_name: str

    @property
    def variables(self) -> Sequence[str]:
        """Fields of the request that the path gives, such as "model.name"."""
        return _VARIABLE.findall(self.path)

    @property
    def pattern(self) -> str:
        """The path as aiohttp writes it, whose variables are words."""
        return _VARIABLE.sub(lambda found: "{" + variable_word(found[1]) + "}", self.path)


def variable_word(name: str) -> str:
    """A field's name as aiohttp names the variable."""
    return name.replace(".", "_")


def routes_of(service: ServiceDescriptor) -> list[Route]:
    """The routes of all methods that have an HTTP option."""
    routes = (_route(service, method) for method in service.methods)
    return [route for route in routes if route is not None]


def _route(service: ServiceDescriptor, method: MethodDescriptor) -> Route | None:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if verb is None:
        return None
    return Route(
        method=method.name,
        verb=verb.upper(),
        path=getattr(rule, verb),
        takes_body=rule.body == "*",
        request_type=GetMessageClass(method.input_type),
        full_name=f"/{service.full_name}/{method.name}",
    )
