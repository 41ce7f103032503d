"""Generate the files of the blocking client from those of the asynchronous one.

    python hvae_codec/client/generate_blocking.py [--check]

What threads and asyncio do in other ways is in the `primitives` of each. Needs ruff.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

CLIENT: Final = Path(__file__).parent
NAMES: Final = ("calls.py", "client.py", "live.py", "streams.py")

REPLACED: Final = (
    (r"(?s)\n\n    Event loop: .*?(?=\n    \"\"\")", ""),  # a paragraph about asyncio
    (r"\n +await sleep\(0\).*", ""),  # threads run without being let
    (r", for one event loop; ", "; share it between threads, and "),
    (r", asynchronous ones too,", ","),
    (r"\bin a task of its own", "in a thread of its own"),
    (r"`AsyncClient`: the client of the gRPC service for asyncio", "`Client`: the blocking client"),
    (r"\n.* import ManyFiles, ManyPictures", ""),
    (r"\bManyFiles\b", "Iterable[bytes]"),
    (r"\bManyPictures\b", "Pictures"),
    (r"\bAsyncGenerator\[(.+), None\]", r"Iterator[\1]"),
    (r"\bAsync(Generator|Iterator)\b", "Iterator"),
    (r"\bAsyncClient\b", "Client"),
    (r"\bhvae_codec\.client\.aio\b", "hvae_codec.client.blocking"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit)__", r"__\1__"),
    (r"\ba(iter|next)\(", r"\1("),
)
"""Patterns in order, each with its replacement."""


def blocking(name: str) -> str:
    """The text of a file of the blocking client, from the file of the same name in aio/."""
    text = (CLIENT / "aio" / name).read_text()
    for pattern, replacement in REPLACED:
        text = re.sub(pattern, replacement, text)
    text = f"# Generated from aio/{name} by generate_blocking.py: change that one.\n{text}"
    fix = "check", "--quiet", "--fix", "--unsafe-fixes", "--select", "I,F401,UP028"
    for command in (fix, ("format",)):
        path = str(CLIENT / "blocking" / name)  # whose settings hold
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", path, "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> None:
    """Write the files, or compare them with --check."""
    parser = argparse.ArgumentParser(description="Generate the blocking client.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args().check
    for name in NAMES:
        path, text = CLIENT / "blocking" / name, blocking(name)
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path} is not generated from aio/{name}: run make client")


if __name__ == "__main__":
    main()
