"""A gRPC server that moves bytes and does nothing else: `python -m benchmarks.service.echo_server
FILE` writes its port into the file. The method `/echo/unary-N` answers a message with N bytes, and
`/echo/stream-N` each message of a stream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from hvae_codec.utils.atomic_files import write_atomically


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers any number of bytes to any method that names it."""

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method."""
        kind, _, size = handler_call_details.method.rpartition("-")
        answer = bytes(int(size))

        async def unary(request: bytes, context: Any) -> bytes:
            return answer

        async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for _ in requests:
                yield answer

        if kind == "/echo/unary":
            return grpc.unary_unary_rpc_method_handler(unary)
        return grpc.stream_stream_rpc_method_handler(stream)


async def serve(port_file: Path) -> None:
    """Serve until the process ends."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_atomically(port_file, f"{port}\n".encode())
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
