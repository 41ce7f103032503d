"""What the plain server's tests use, for the same tests on Ray Serve."""

from tests.server.conftest import (  # noqa: F401
    codec,
    model,
    other_rung,
    rung,
    server,
    smooth_picture,
    start_lasting_server,
    tiles,
)
