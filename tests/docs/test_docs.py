"""What README.md and docs/ name exists: paths, modules, objects, flags, links, commands; and the
modules of docs/site/ that make the rest of the pages.
"""

import importlib.util
import pkgutil
import re
import shlex
import sys

import pytest

from benchmarks.docs import readme_tables
from hvae_codec.cli import build_parser
from hvae_codec.server.settings import Settings
from hvae_codec.utils.options import arguments_of
from tests.docs.pages import ALL_COMMANDS, PAGES, ROOT, RUN

README_LINES = 250


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= README_LINES


@pytest.mark.parametrize("page", readme_tables.PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results(page):
    assert readme_tables.rendered(page) == page.read_text()


def test_a_stale_table_is_found(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    stale = "before\n<!-- summary -->\n| old |\n<!-- end summary -->\nafter\n"
    page.write_text(stale)
    monkeypatch.setattr(readme_tables, "PAGES", {page: readme_tables.PAGES[readme_tables.README]})
    monkeypatch.setattr(sys, "argv", ["readme_tables", "--check"])
    assert readme_tables.main() == 1
    assert page.read_text() == stale
    monkeypatch.setattr(sys, "argv", ["readme_tables"])
    assert readme_tables.main() == 0
    written = page.read_text()
    assert written.startswith("before\n<!-- summary -->\n| images | quality |")
    assert written.endswith("\n<!-- end summary -->\nafter\n")
    monkeypatch.setattr(sys, "argv", ["readme_tables", "--check"])
    assert readme_tables.main() == 0


PATH = re.compile(r"(?<![\w./:-])((?:[\w.-]+/)+[\w.-]+\.(?:py|cpp|cu|h|sh|proto|yaml|md|toml))\b")
MODULE = re.compile(r"python -m ([\w.]+)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_named_paths_exist(page):
    text = LINK.sub("]", PAGES[page])
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_named_modules_exist(page):
    def runs(module):
        found = importlib.util.find_spec(module)
        is_package = found is not None and found.submodule_search_locations is not None
        return found and (not is_package or importlib.util.find_spec(f"{module}.__main__"))

    assert [module for module in MODULE.findall(PAGES[page]) if not runs(module)] == []


OBJECT = re.compile(r"`(hvae_codec(?:\.\w+)+)")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]+")
OTHER_PROGRAMS = re.compile(
    r"^.*(?:\bopenssl\b|\bpip\b|\bauditwheel\b|python -m|serve run|curl).*$", re.MULTILINE
)


@pytest.mark.parametrize("page", PAGES)
def test_named_objects_exist(page):
    for name in set(OBJECT.findall(PAGES[page])):
        pkgutil.resolve_name(name)


@pytest.fixture(scope="module")
def command_page():
    """The site's page about the command."""
    return site_module("hooks").command_page()


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"docs/BENCHMARKS.md"}))
def test_named_flags_exist(page, command_page):
    """Of the command; docs/BENCHMARKS.md names those of benchmarks. The service's page names the
    spellings of the last release, too.
    """
    known = set(FLAG.findall(command_page))
    if page == "docs/guides/service.md":
        known |= {f"--{each.old.replace('_', '-')}" for each in arguments_of(Settings).values()}
    named = set(FLAG.findall(OTHER_PROGRAMS.sub("", PAGES[page])))
    assert named - known - {"--no-build-isolation"} == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    """In the repository; the site's build checks its own, anchors among them."""
    written_by_the_site = {"docs/reference/command.md"}
    folder = (ROOT / page).parent
    targets = [
        (folder / target).resolve().relative_to(ROOT) for target in LINK.findall(PAGES[page])
    ]
    missing = {path.as_posix() for path in targets if not (ROOT / path).exists()}
    assert missing <= written_by_the_site


def test_what_the_checks_of_names_find():
    assert PATH.findall("`x/y.py`, a/b-c.d/e.md. http://host/z.py /tmp/q.py out.py") == [
        "x/y.py",
        "a/b-c.d/e.md",
    ]
    assert MODULE.findall("`python -m benchmarks.codec.memory --json x`") == [
        "benchmarks.codec.memory"
    ]
    assert LINK.findall("[a](b/c.md#d) [e](https://f/g) ![h](i.png) [j](#k)") == [
        "b/c.md",
        "i.png",
    ]


def site_module(name):
    """A module of docs/site/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / f"docs/site/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_has_every_option():
    page = site_module("hooks").command_page()
    titles = re.findall(r"^##+ (.*)$", page, re.MULTILINE)
    assert {command.split()[0] for _, command in ALL_COMMANDS} <= set(titles)
    assert "remote encode" in titles
    assert re.search(r"^## encode\n[^#]*--target-bytes", page, re.MULTILINE)
    assert re.search(r"^## serve\n[^#]*--metrics-port", page, re.MULTILINE)
    assert re.search(r"^### remote encode\n[^#]*--token-file", page, re.MULTILINE)


def test_links_out_of_docs_are_found_from_any_page():
    outside = site_module("hooks")._outside
    assert outside("../benchmarks/common.py", "BENCHMARKS.md") == "benchmarks/common.py"
    assert outside("../../benchmarks/common.py", "guides/a.md") == "benchmarks/common.py"
    assert outside("BENCHMARKS.md", "index.md") is None
    assert outside("https://host/benchmarks/common.py", "index.md") is None
    assert outside("../absent.py", "index.md") is None


def test_entries_of_raises_are_told_apart():
    written = """Does it.

Raises:
    AError, BError: both, see
    below. CError: (its own).
    DWarning: on a line
        of two.

More: text. EError: none."""
    assert (
        site_module("docstrings").one_entry_per_line(written)
        == """Does it.

Raises:
    AError, BError: both, see below.
    CError: (its own).
    DWarning: on a line of two.

More: text. EError: none."""
    )


def test_pages_with_commands():
    found = {command.split()[0] for _, command in ALL_COMMANDS}
    other = "serve train sweep evaluate report train-classifier pack ls cat unpack"
    other += " benchmark quantise"
    assert found == {*RUN, *other.split()}


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_commands_parse(page, command, capsys):
    # --help behind all other arguments shows that the parser takes them.
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*shlex.split(command), "--help"])
    assert ended.value.code == 0, capsys.readouterr().err
