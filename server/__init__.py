"""The gRPC service, installed as `hvae_codec.server`.

`cli` parses flags and `app` starts and stops. `rpc` answers calls, `admission` bounds what they
take, `engine` computes in batches, `auth` says who may call, `observability` shows what happens.
"""

from .cli import add_arguments, main, run

__all__ = ["add_arguments", "main", "run"]
