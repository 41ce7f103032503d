"""Commands and programs of README.md and docs/, run as they stand (ports and the data set
excepted), and the paths and modules that they name.
"""

import contextlib
import functools
import importlib.util
import io
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import hvae_codec.data
from benchmarks.docs import readme_tables
from benchmarks.docs.demo import running_server
from hvae_codec import HVAEFeatures
from hvae_codec.cli import build_parser, main
from hvae_codec.data import ImageDataset
from hvae_codec.server.options import arguments_of
from hvae_codec.server.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
ADDRESS = "127.0.0.1:50051"
README_LINES = 250
RUN = ("models", "encode", "decode", "info", "features", "sample")
"""Commands of the page about the command line that are run; others are parsed."""


def fenced(page, kind):
    """The blocks of a page that begin with ```kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == kind]


PROGRAMS = {page: fenced(page, "python") for page, text in PAGES.items() if "```python" in text}


def commands(page):
    """Arguments of every `hvae-codec` that a page shows on a line of its own."""
    found = re.findall(r"^(?:    |\$ )?hvae-codec ([a-z].*)$", PAGES[page], re.MULTILINE)
    return [command.partition("  #")[0] for command in found]


def make_images():
    """The images that the pages name, below the current directory."""
    photo = Image.fromarray(load_sample_image("flower.jpg")[:64, :96])
    photo.save("photo.png")
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:500])
    Path("photos").mkdir()
    photo.save("photos/a.png")
    china = Image.fromarray(load_sample_image("china.jpg"))
    china.crop((100, 200, 132, 232)).save("photos/b.png")
    china.crop((132, 200, 164, 232)).save("photos/c.png")
    Path("pictures").mkdir()
    photo.save("pictures/a.png")
    china.crop((100, 200, 300, 300)).save("pictures/b.png")
    Path("pictures/broken.png").write_bytes(Path("photo.png").read_bytes()[:500])


def load_dataset(original, name, split="train", **options):
    """`hvae_codec.data.load_dataset`, with other images for CIFAR-10's: of the upper and of the
    lower part of one, as many as its test split has.
    """
    if name != "cifar10":
        return original(name, split, **options)
    assert (split, options) == ("test", {})
    china, rng = load_sample_image("china.jpg"), np.random.default_rng(0)
    labels, columns = rng.integers(0, 2, 10_000), rng.integers(0, 608, 10_000)
    rows = 300 * labels + rng.integers(0, 30, 10_000)
    crops = [china[y : y + 32, x : x + 32] for y, x in zip(rows, columns, strict=True)]
    return ImageDataset(np.stack(crops), labels, "sky and trees", "test")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with the images, and no other to write to."""
    monkeypatch.chdir(tmp_path)
    make_images()
    return tmp_path


@dataclass
class Session:
    """What the programs of a page left that ran one after another, as if pasted."""

    folder: Path
    programs: dict[str, tuple[str, dict]]
    """Of each what it printed, and all names after it."""

    def output(self, words):
        """What the one program with these words in it printed."""
        return self._program(words)[0]

    def names_after(self, words):
        """The names and values that it and those before it left."""
        return self._program(words)[1]

    def _program(self, words):
        (found,) = [result for program, result in self.programs.items() if words in program]
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running_server(log) as target:
        yield target
    assert "INFO serving after" in log.read_text()


@pytest.fixture(scope="module")
def ran(tmp_path_factory, server):
    """A function from a page to the session of its programs, which run once."""

    @functools.cache
    def session(page):
        folder = tmp_path_factory.mktemp("page")
        names, programs = {"__name__": "__main__"}, {}
        with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
            make_images()
            original = hvae_codec.data.load_dataset
            patch.setattr(hvae_codec.data, "load_dataset", partial(load_dataset, original))
            for program in PROGRAMS[page]:
                assert ADDRESS in program or "Client(" not in program
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(program.replace(ADDRESS, server), page, "exec"), names)
                programs[program] = (out.getvalue(), dict(names))
        return Session(folder, programs)

    return session


@pytest.mark.parametrize("page", PROGRAMS)
def test_all_programs_run(page, ran):
    session = ran(page)
    assert len(session.programs) == len(PROGRAMS[page]) == PAGES[page].count("```python")


def test_pages_with_programs():
    guides = "archives encode-decode features photographs pillow service training"
    assert set(PROGRAMS) == {
        "README.md",
        "docs/index.md",
        "docs/tutorials/classify-a-folder.md",
        *(f"docs/guides/{guide}.md" for guide in guides.split()),
    }


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
    r"^.*(?:\bopenssl\b|\bpip\b|python -m|serve run|grpcurl).*$", re.MULTILINE
)


@pytest.mark.parametrize("page", PAGES)
def test_named_objects_exist(page):
    for name in set(OBJECT.findall(PAGES[page])):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"docs/BENCHMARKS.md"}))
def test_named_flags_exist(page):
    """Of the command; docs/BENCHMARKS.md names those of benchmarks. The service's page names the
    spellings of the last release, too.
    """
    known = set(FLAG.findall(site_module("hooks").command_page()))
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


def test_quick_start(ran):
    session = ran("README.md")
    assert "(427, 640, 3) (427, 640, 3)" in session.output("codec.preview")
    assert session.output("decode_rows").endswith(", 640, 3)\n")
    assert session.output("ArchiveWriter") == "3 (64, 96, 3) (64, 96, 3)\n"
    assert float(session.output("HVAEFeatures")) > 0.9, "sky and trees are easily told apart"
    assert session.output("Client").endswith(" (64, 96, 3) (1, 32)\n")


def test_tutorial(ran):
    session = ran("docs/tutorials/classify-a-folder.md")
    assert session.output("Image.fromarray") == "56\n"
    assert session.output("HVAEFeatures").startswith("(56, ")
    assert float(session.output("cross_val_score")) > 0.9
    assert session.output('archive["china-0-0.png"]') == "(96, 96, 3)\n"


def test_training_in_python(ran):
    session = ran("docs/guides/training.md")
    assert int(session.output("Recipe(")) > 1000
    assert (session.folder / "runs/small").is_dir()


def test_in_python(ran):
    session = ran("docs/guides/encode-decode.md")
    assert session.output("encode_block").endswith("(260, 32) (16, 32, 32, 3)\n")


def test_sizes_and_qualities_that_are_asked_for(ran):
    session = ran("docs/guides/encode-decode.md")
    names = session.names_after("encode_within")
    assert len(names["blob"]) <= 80  # of the last of three requests
    assert sum(map(len, names["blobs"])) <= 500
    assert (len(names["blobs"]), names["between"].info.name) == (8, "cifar10")


def test_archive(ran):
    session = ran("docs/guides/archives.md")
    assert session.output("many.hvaa").splitlines() == [
        "3 ['flower', None, None] True",
        "(64, 96, 3) (64, 96, 3)",
        "2 (1, 32)",
    ]


def test_archives_on_the_command_line(here, capsys):
    """Commands and their output; sizes may differ by a few bytes where networks round otherwise."""
    (session,) = fenced("docs/guides/archives.md", "console")
    steps = re.findall(r"^\$ hvae-codec (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert len(steps) == session.count("$ ") == 6
    for command, output in steps:
        assert main(shlex.split(command)) == 0, command
        shown, numbers = capsys.readouterr().out, re.compile(r"\d+(?:\.\d+)?")
        assert numbers.sub("N", shown) == numbers.sub("N", output)
        pairs = zip(numbers.findall(shown), numbers.findall(output), strict=True)
        assert all(float(new) == pytest.approx(float(old), rel=0.03) for new, old in pairs)
    assert len(list(Path("unpacked").iterdir())) == 4


def test_photographs(ran):
    session = ran("docs/guides/photographs.md")
    lines = session.output("decode_rows").splitlines()
    assert [line.split(") ")[0] for line in lines] == ["(32, 1500, 3"] * 18 + ["(24, 1500, 3"]


def test_photographs_whole(ran):
    session = ran("docs/guides/photographs.md")
    first, second = session.output('load("photo"').splitlines()
    assert first.endswith(" (427, 640, 3)")
    assert 0 < int(first.split()[0]) < 40_000
    assert int(second) == pytest.approx(20_000, rel=0.02)


def test_features_of_photographs(ran):
    session = ran("docs/guides/features.md")
    score = float(session.output('HVAEFeatures("photo"'))
    assert score > 0.8, "a flower and a palace are easily told apart"


def test_in_pillow(ran):
    session = ran("docs/guides/pillow.md")
    shown = "HVAE (96, 64) RGB {'model': 'photo', 'quality': 40.0} 1\n"
    assert session.output("pillow_plugin") == shown
    assert Image.open(session.folder / "small.png").size == (48, 32)


def test_as_features(ran):
    session = ran("docs/guides/features.md")
    score = float(session.output("load_dataset"))
    assert score > 0.9, "sky and trees are easily told apart"


def test_features_of_an_archive(ran):
    session = ran("docs/guides/features.md")
    score, _, name = session.output("ArchivePictures").partition(" ")
    assert float(score) > 0.7
    assert name.startswith("{'hvaefeatures__layers': ")
    assert HVAEFeatures.load(session.folder / "features.json").quality == 3


def test_as_a_service(ran):
    session = ran("docs/guides/service.md")
    names = session.names_after("client.features_from_bytes")
    assert names["images"][0].shape == (64, 96, 3)
    assert names["features"].mean.shape == (1, 32)
    lines = session.output("encode_stream").splitlines()
    assert re.fullmatch(r"\d+ bytes", lines[0])
    assert "truncated PNG" in lines[1]
    size, psnr = re.fullmatch(r"(\d+) bytes, ([\d.]+) dB", lines[2]).groups()
    assert int(size) == len(session.names_after("encode_stream")["found"].encoded)
    assert float(psnr) >= 33.0


def test_the_service_on_the_command_line(here, server, capsys):
    """Commands and all that they print; numbers differ, images being others."""
    blocks = fenced("docs/guides/service.md", "")
    (shown,) = [block for block in blocks if "encode pictures --server" in block]
    steps = re.findall(r"^\$ hvae-codec (.*)\n((?:[^$].*\n)*)", shown, re.MULTILINE)
    assert len(steps) == shown.count("$ ") == 2
    numbers = re.compile(r"\d+(?:\.\d+)?")
    for command, output in steps:
        code = main(shlex.split(command.replace(ADDRESS, server)))
        found = capsys.readouterr()
        assert code == ("failed" in output and " 0 failed" not in output)
        assert numbers.sub("N", found.err + found.out) == numbers.sub("N", output)


def test_on_the_command_line(here, capsys):
    found = commands("docs/guides/command-line.md")
    assert [command.split()[0] for command in found] == list(RUN)
    for command in found:
        assert main(shlex.split(command)) == 0, command
        assert capsys.readouterr().out
    assert {path.name for path in here.iterdir()} >= {"photo.hvae", "z2.npz", "samples.png"}


ALL_COMMANDS = sorted({(page, command) for page in PAGES for command in commands(page)})


def test_pages_with_commands():
    found = {command.split()[0] for _, command in ALL_COMMANDS}
    other = "serve train sweep evaluate report train-classifier pack ls cat unpack"
    assert found == {*RUN, *other.split()}


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_commands_parse(page, command, capsys):
    # --help behind all other arguments shows that the parser takes them.
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*shlex.split(command), "--help"])
    assert ended.value.code == 0, capsys.readouterr().err


def test_secrets_are_made_as_shown_and_the_server_takes_them(here):
    blocks = fenced("docs/guides/service.md", "")
    block = next(text for text in blocks if "secrets.token_urlsafe" in text)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    serve = next(shlex.split(line) for line in lines if line.startswith("hvae-codec serve"))
    call = next(shlex.split(line) for line in lines if line.startswith("hvae-codec encode"))
    making = "\n".join(line for line in lines if not line.startswith("hvae-codec"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", making], check=True, env=environment, capture_output=True)
    for secret in ("tokens", "my-token", "server.key"):
        assert Path(secret).stat().st_mode & 0o077 == 0
    command = [sys.executable, "-m", "hvae_codec.server", *serve[2:]]
    command += ["--port", "0", "--port-file", "port", "--preload", "cifar10"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not Path("port").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        call[call.index("--server") + 1] = f"localhost:{Path('port').read_text().strip()}"
        assert main(call[1:]) == 0
    finally:
        server.kill()
        server.wait()
    assert Path("photo.hvae").exists()
