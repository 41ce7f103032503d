"""Hooks of the documentation site: the command's reference, and files from outside docs/."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from hvae_codec.cli import build_parser
from hvae_codec.cli.common import CommandParser

ROOT = Path(__file__).parents[2]
COMMAND_PAGE = "reference/command.md"
LINK = re.compile(r"(\]\()([^)#?\s]+)")
HELP_COLUMNS = "80"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the command's reference, and the repository's files that pages link to."""
    files.append(File.generated(config, COMMAND_PAGE, content=command_page()))
    for page in files.documentation_pages():
        for target in LINK.findall(page.content_string):
            path = _outside(target[1], page.src_uri)
            if path is not None and path not in files.src_uris:
                source = str(ROOT / path)
                files.append(File.generated(config, path, abs_src_path=source))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside docs/ at their copies in the site."""

    def moved(match: re.Match[str]) -> str:
        path = _outside(match[2], page.file.src_uri)
        if path is None:
            return match[0]
        return match[1] + posixpath.relpath(path, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)


def command_page() -> str:
    """The help of every subcommand as Markdown."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_COLUMNS
    try:
        parser = build_parser()
        parts = ["# Command", "", "From `hvae-codec COMMAND --help`.", "", _block(parser)]
        for name, command in _subcommands(parser):
            inner = _subcommands(command)
            parts += [f"## {name}", "", _block(command)]
            for subname, subcommand in inner:
                _subcommands(subcommand)
                parts += [f"### {name} {subname}", "", _block(subcommand)]
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "\n".join(parts)


def _block(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help().rstrip()}\n```\n"


def _subcommands(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.ArgumentParser]]:
    """Declare a parser's arguments; return the parsers of its subcommands, without aliases."""
    if isinstance(parser, CommandParser) and parser.declare is not None:
        declare, parser.declare = parser.declare, None  # as when the command is used
        declare(parser)
    found: dict[int, tuple[str, argparse.ArgumentParser]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found.setdefault(id(command), (name, command))
    return list(found.values())


def _outside(link: str, page: str) -> str | None:
    """The repository path of a link that leaves docs/, or None for any other link."""
    if ":" in link or link.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), unquote(link)))
    inside = path.startswith("docs/")
    return path if not inside and (ROOT / path).is_file() else None
