"""Clients of the gRPC service: arrays and bytes in, arrays and bytes out.

    with Client("127.0.0.1:50051") as client:
        blobs = client.encode(["photo.jpg", array], model="cifar10", quality=3)
        images = client.decode(blobs)
        for blob in client.encode_stream(folder.glob("*.png"), model="auto"):
            ...

`AsyncClient` has the same methods as coroutines and asynchronous generators. Where the server
refuses an input, both raise the class of `hvae_codec.errors` that the codec itself would raise in
this process, its message led by the item's place in the request; every other failure is a
`ServiceError`. What the server could not take just now they send again, as `Retry` says.
"""

from hvae_codec.client import messages
from hvae_codec.client.aio.client import AsyncClient
from hvae_codec.client.base import Streaming
from hvae_codec.client.blocking.client import Client
from hvae_codec.client.errors import ServiceError
from hvae_codec.client.messages import (
    Pictures,
    RemoteEvaluation,
    RemoteLimits,
    RemoteModel,
    Transfer,
)
from hvae_codec.client.retry import Retry

__all__ = [
    "AsyncClient",
    "Client",
    "Pictures",
    "RemoteEvaluation",
    "RemoteLimits",
    "RemoteModel",
    "Retry",
    "ServiceError",
    "Streaming",
    "Transfer",
    "messages",
]
