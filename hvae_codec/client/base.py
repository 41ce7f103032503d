"""What `Client` and `AsyncClient` have in common: their settings, and one call's tries."""

import math
import random
from collections.abc import AsyncIterable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from hvae_codec.client.connection.certificates import Secret
from hvae_codec.client.connection.channel import Balancing, Connection
from hvae_codec.client.connection.pool import Pool
from hvae_codec.client.requests import ServerInfo
from hvae_codec.client.retry import Retry, RetryState, duration
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import real, shown, take, whole

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
DEFAULT_MESSAGE_BYTES: Final = 4 * 1024 * 1024

Raise = Literal["raise"]
Return = Literal["return"]
OnError = Raise | Return
"""What becomes of an item that fails: its error is raised, or stands in its place."""


@dataclass(frozen=True)
class Streaming:
    """How a client's streams go: `in_flight` messages of at most `message_items` wait for answers.

    More items a message are faster, fewer come back sooner; more messages keep a server busy
    that is far away, and are held in memory here. A message that is not full goes out once its
    first item has waited for `delay_seconds` and the source has nothing more for the moment. With
    None it waits until it is full, and answers wait while the source is read.

    Raises:
        HvaeCodecError: a number is below 1, or the delay is negative or not finite.
    """

    in_flight: int = 4
    message_items: int = 256
    delay_seconds: float | None = 0.2

    def __post_init__(self) -> None:
        take(self, "in_flight", whole)
        take(self, "message_items", whole)
        if min(self.in_flight, self.message_items) < 1:
            raise HvaeCodecError(f"in_flight and message_items must be at least 1, got {self}")
        take(self, "delay_seconds", real)
        if self.delay_seconds is not None and not 0.0 <= self.delay_seconds < math.inf:
            raise HvaeCodecError(f"delay_seconds must be finite and at least 0, got {self}")


class BaseClient:
    """A connection to one server.

    Args:
        target: HOST:PORT, or unix:PATH; of a host with several addresses, all take calls in turn.
        timeout: seconds that a call may take, with all its tries, where the call itself does not
            say; None, or more than 1e9, for no limit. Streams have none but their own. The default
            grows by what a search for a size or a PSNR may take, 10 minutes a megapixel.
        max_message_bytes: largest message either way; the server has a limit of its own.
        retry: how often to send again what the server could not take just now.
        streaming: how many messages of how many items a stream keeps on their way.
        root_certificates, certificate, private_key: PEM, as bytes or paths, for an encrypted
            connection: whom to trust, and what to show of oneself.
        tls: encrypt where none of them is given, trusting gRPC's own list of authorities.
        token: sent with every call as `authorization: Bearer TOKEN`; never unencrypted to another
            machine, unless with `insecure`.
        balancing: "round_robin", or "pick_first" for the first address that answers alone.
        connections: most to each address; another is opened where 100 calls are on their way.

    Raises:
        HvaeCodecError: another balancing, fewer than one connection, a timeout that is no number or
            negative, a target with a scheme such as https://, certificate without key, key
            without certificate, an unreadable file, or a token that may not travel.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
        retry: Retry | None = None,
        streaming: Streaming | None = None,
        root_certificates: Secret | None = None,
        certificate: Secret | None = None,
        private_key: Secret | None = None,
        tls: bool = False,
        token: str | None = None,
        insecure: bool = False,
        balancing: Balancing = "round_robin",
        connections: int = 8,
    ) -> None:
        if whole("connections", connections) < 1:
            raise HvaeCodecError(f"connections must be at least 1, got {connections}")
        for name, given, kind in (("retry", retry, Retry), ("streaming", streaming, Streaming)):
            if given is not None and not isinstance(given, kind):
                raise HvaeCodecError(f"{name} must be a {kind.__name__}; got {shown(given)}")
        connection = Connection(
            target,
            max_message_bytes,
            tls=tls,
            root_certificates=root_certificates,
            certificate=certificate,
            private_key=private_key,
            token=token,
            insecure=insecure,
            balancing=balancing,
        )
        self.target = target
        self._timeout = None if timeout is None else duration("timeout", timeout)
        self._retry = Retry() if retry is None else retry
        self._streaming = Streaming() if streaming is None else streaming
        self._shares = random.Random(self._retry.seed)
        self._message_bytes = max_message_bytes
        self._server_info: ServerInfo | None = None
        self._hint = connection.hint
        self._metadata = connection.metadata
        self._pool = Pool(lambda: self._open(connection), connections)

    def _open(self, connection: Connection) -> Any:
        """The channel, blocking or not."""
        raise NotImplementedError

    def _tries(self, timeout: float | None) -> RetryState:
        """Those of one call."""
        seconds = self._timeout if timeout is None else duration("timeout", timeout)
        grows = timeout is None and seconds == DEFAULT_TIMEOUT_SECONDS
        return self._tries_of(seconds, grows=grows)

    def _tries_of(self, seconds: float | None, *, grows: bool = False) -> RetryState:
        """Those of a call that may take so long."""
        return RetryState(
            self._retry, self._shares, self.target, seconds, grows=grows, hint=self._hint
        )

    def _is_live(self, values: object) -> bool:
        """Whether values may come now and then, so that what there is does not wait for more."""
        if isinstance(values, AsyncIterable):
            return True
        available = hasattr(values, "__len__") and hasattr(values, "__getitem__")
        return self._streaming.delay_seconds is not None and not available

    def _streaming_of(self, values: object) -> Streaming:
        """How a stream of these values goes: what has come of a list waits for no more of it."""
        live = self._is_live(values)
        return self._streaming if live else replace(self._streaming, delay_seconds=None)


def raises(on_error: OnError) -> bool:
    """Whether items that fail raise.

    Raises:
        HvaeCodecError: it is neither of the two.
    """
    if not isinstance(on_error, str) or on_error not in ("raise", "return"):
        raise HvaeCodecError(f"on_error must be 'raise' or 'return', got {shown(on_error)}")
    return on_error == "raise"
