"""What `Client` and `AsyncClient` have in common: their settings, and one call's tries."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar

from hvae_codec.client.connection.channel import Balancing, Connection, Secret
from hvae_codec.client.connection.pool import Pool
from hvae_codec.client.retry import Retry, RetryState
from hvae_codec.client.sans_io import protocol
from hvae_codec.client.sans_io.protocol import ServerInfoCache
from hvae_codec.client.sans_io.requests import Operation
from hvae_codec.client.sans_io.steps import Streaming, StreamSteps, UnarySteps
from hvae_codec.codec.features import Features
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import real, whole

T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
DEFAULT_MESSAGE_BYTES: Final = 4 * 1024 * 1024

Raise = Literal["raise"]
Return = Literal["return"]
OnError = Raise | Return
"""What becomes of an item that fails: its error is raised, or stands in its place."""


class BaseClient:
    """A connection to one server.

    Args:
        target: HOST:PORT, or unix:PATH; of a host with several addresses, all take calls in turn.
        timeout: seconds that a call may take, with all its tries, where the call itself does not
            say; None for no limit. Streams have none but their own. The default grows by what a
            search for a size or a PSNR may take, 10 minutes a megapixel.
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
        HvaeCodecError: another balancing, fewer than one connection, a timeout that is no number, a
            target with a scheme such as https://, certificate without key, key
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
        self._timeout = None if timeout is None else real("timeout", timeout)
        self._retry = Retry() if retry is None else retry
        self._streaming = Streaming() if streaming is None else streaming
        self._shares = random.Random(self._retry.seed)
        self._known = ServerInfoCache(max_message_bytes)
        self._hint = connection.hint
        self._metadata = connection.metadata
        self._pool = Pool(lambda: self._open(connection), connections)

    def _open(self, connection: Connection) -> Any:
        """The channel, blocking or not."""
        raise NotImplementedError

    def _tries(self, timeout: float | None) -> RetryState:
        """Those of one call."""
        seconds = self._timeout if timeout is None else real("timeout", timeout)
        grows = timeout is None and seconds == DEFAULT_TIMEOUT_SECONDS
        return self._tries_of(seconds, grows=grows)

    def _tries_of(self, seconds: float | None, *, grows: bool = False) -> RetryState:
        """Those of a call that may take so long."""
        return RetryState(
            self._retry, self._shares, self.target, seconds, grows=grows, hint=self._hint
        )

    def _all_steps(
        self, operation: Operation[Any, T], values: Iterable[Any], on_error: OnError
    ) -> UnarySteps[list[T | Exception]]:
        """Those of all outcomes of a call of many items."""
        tries = self._tries(operation.timeout)
        raising = raises(on_error)
        return protocol.all_results(operation, values, self._known, tries, raising=raising)

    def _features_steps(
        self, operation: Operation[Any, Features], values: Iterable[Any], on_error: OnError
    ) -> UnarySteps[Any]:
        """Those of features: [N, D] together, or [D] each where errors stand among them."""
        if not raises(on_error):
            return self._all_steps(operation, values, on_error)
        tries = self._tries(operation.timeout)
        return protocol.all_features(operation, values, self._known, tries)

    def _is_live(self, values: object) -> bool:
        """Whether values may come now and then, so that what there is does not wait for more."""
        at_hand = hasattr(values, "__len__") and hasattr(values, "__getitem__")
        return self._streaming.delay_seconds is not None and not at_hand

    def _stream_steps(
        self, operation: Operation[Any, Any], values: object, on_error: OnError
    ) -> StreamSteps:
        """Those of a stream, which may take for ever unless the caller said how long."""
        tries = self._tries_of(operation.timeout)
        raising = raises(on_error)
        streaming = self._streaming
        if not self._is_live(values):
            streaming = replace(streaming, delay_seconds=None)
        return protocol.streamed(operation, self._known, tries, streaming, raising=raising)


def raises(on_error: OnError) -> bool:
    """Whether items that fail raise.

    Raises:
        HvaeCodecError: it is neither of the two.
    """
    if on_error not in ("raise", "return"):
        raise HvaeCodecError(f"on_error must be 'raise' or 'return', got {on_error!r}")
    return on_error == "raise"
