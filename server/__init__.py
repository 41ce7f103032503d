"""The gRPC service, installed as `hvae_codec.server`.

`command` parses flags, `app` starts and stops, `service` answers calls through `handlers`,
`convert` turns messages into arrays and back, `status` gives every error its gRPC status.
"""

from .command import add_arguments, main, run

__all__ = ["add_arguments", "main", "run"]
