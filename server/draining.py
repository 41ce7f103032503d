"""Leaving a port that servers share: no new connections first, and no call refused for it.

gRPC closes its listening sockets together with its server, which cancels calls that it has not
looked at. Where another server listens on the port, its connections are to go there before that.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_DESCRIPTORS: Final = Path("/proc/self/fd")


def stop_listening(port: int) -> bool:
    """Take no more connections on this port of TCP, in this process; those that are there stay.

    Returns whether there was a socket that listened. Where the system does not list a process's
    sockets there is none.
    """
    found = False
    if not _DESCRIPTORS.is_dir():
        return found
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as tried:
            listens = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            internet = tried.family in (socket.AF_INET, socket.AF_INET6)
            if listens and internet and tried.getsockname()[1] == port:
                tried.shutdown(socket.SHUT_RDWR)
                found = True
    return found
