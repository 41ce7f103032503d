"""The map of an Encode call in docs/ARCHITECTURE.md, against the files that one runs."""

import asyncio
import re
import sys
from pathlib import Path

from hvae_codec.client import AsyncClient
from hvae_codec.server import app as server_app
from hvae_codec.server.app import App
from hvae_codec.server.settings import EngineSettings, Preload, Settings

ROOT = Path(__file__).parents[3]
SERVER = Path(server_app.__file__).parent


def files_of_the_map():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    section = text.split("## An Encode call", 1)[1].split("    response\n", 1)[0]
    return set(re.findall(r"server/(\S+\.py)", section))


def files_of_a_call(tile, tmp_path):
    """Files of the server with code that runs in the event loop for one call of a small image."""
    found = set()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SERVER):
            found.add(str(path.relative_to(SERVER)))

    async def main():
        engine = EngineSettings(coding_processes=0)
        host = f"unix:{tmp_path}/socket"
        app = App(Settings(host=host, engine=engine, preload=(Preload("cifar10"),)))
        app.engine._latency.should_run_inline = lambda *_: True
        async with AsyncClient(await app.start()) as client:
            await client.encode([tile], model="cifar10")
            sys.setprofile(note)
            await client.encode([tile], model="cifar10")
            sys.setprofile(None)
        await app.stop()

    asyncio.run(asyncio.wait_for(main(), 120))
    return found


def test_the_map_names_the_files_of_an_encode_call(tiles, tmp_path):
    expected = files_of_the_map()
    assert len(expected) <= 12
    # app.py: its background tasks may run meanwhile. logs.py: another test may have set up logs.
    beside = {"app.py", "observability/logs.py"}
    assert files_of_a_call(tiles[0], tmp_path) - beside == expected
