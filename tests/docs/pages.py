"""README.md and the pages of docs/, and the commands and programs in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
RUN = ("models", "encode", "decode", "info", "features", "sample")
"""Commands of the page about the command line that are run; others are parsed."""


def fenced(page, kind):
    """The blocks of a page that begin with ```kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == kind]


def commands(page):
    """Arguments of every `hvae-codec` that a page shows on a line of its own."""
    found = re.findall(r"^(?:    |\$ )?hvae-codec ([a-z].*)$", PAGES[page], re.MULTILINE)
    return [command.partition("  #")[0] for command in found]


ALL_COMMANDS = sorted({(page, command) for page in PAGES for command in commands(page)})
