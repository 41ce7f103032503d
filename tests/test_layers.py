"""Imports point down only: every file's imports, read from its source, against the layers."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    (
        "hvae_codec.errors",
        "hvae_codec.utils",
        "hvae_codec._C",
        "hvae_codec.v1",
    ),
    ("hvae_codec.ops",),
    ("hvae_codec.models",),
    (
        "hvae_codec",  # the public face: what is not in a package of its own below
        "hvae_codec.codec",
        "hvae_codec.data",
        "hvae_codec.evaluation",
        "hvae_codec.features",
        "hvae_codec.reporting",
        "hvae_codec.training",
    ),
    (
        "hvae_codec.grpc_error_info",
        "hvae_codec.client",
        "hvae_codec.pillow_plugin",
        "hvae_codec.stores",
        "hvae_codec.torch",
    ),
    ("hvae_codec.server",),
    ("hvae_codec.cli",),
    ("hvae_codec.entry",),
)
"""Lowest first; a file may import what is in its own layer or below."""

SERVER_MAY_USE = {
    "hvae_codec",
    "hvae_codec.utils.cancellation",
    "hvae_codec.errors",
    "hvae_codec.utils.atomic_files",
    "hvae_codec.utils.cores",
    "hvae_codec.grpc_error_info",
    "hvae_codec.utils.malloc",
    "hvae_codec.utils.options",
    "hvae_codec.utils.signals",
    "hvae_codec.v1",
    # What stands in a header, and pictures in transit, are not matters of the public face.
    "hvae_codec.codec.bitstream.header",
    "hvae_codec.codec.bitstream.symbols",
    "hvae_codec.codec.quality_scale",
    "hvae_codec.codec.images.sniff",
    "hvae_codec.codec.images.load",
    "hvae_codec.codec.images.limits",
    "hvae_codec.codec.model_choice",
    # A codec's halves run in different processes, which may be given its model, and a request says
    # which models it means.
    "hvae_codec.codec.checkpoint",
    "hvae_codec.codec.bitstream.files",
    "hvae_codec.codec.registry",
    "hvae_codec.evaluation.metrics.psnr",
}


def sources():
    """Module name -> path, of the package and the server."""
    paths = [*(ROOT / "hvae_codec").rglob("*.py"), *(ROOT / "server").rglob("*.py")]
    found = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("hvae_codec", *parts) if parts[0] == "server" else parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return {name: path for name, path in found.items() if not name.startswith("hvae_codec.v1.")}


SOURCES = sources()
GENERATED = {"hvae_codec.v1.codec_pb2", "hvae_codec.v1.codec_pb2_grpc", "hvae_codec._C"}


@functools.cache
def imports_of(module):
    """Modules of the project that a module's source imports, anywhere in it."""
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in SOURCES or name in GENERATED else base)
    return frozenset(name for name in found if name.split(".")[0] == "hvae_codec")


def layer_of(module):
    """Number of the layer whose longest entry the module's name begins with."""
    entries = {entry: number for number, layer in enumerate(LAYERS) for entry in layer}
    while module not in entries:
        module = module.rpartition(".")[0]
    return entries[module]


def test_every_package_has_a_place():
    listed = {entry for layer in LAYERS for entry in layer}
    top = {".".join(name.split(".")[:2]) for name in SOURCES}
    assert top <= listed


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_point_down(module):
    upward = {name for name in imports_of(module) if layer_of(name) > layer_of(module)}
    assert not upward


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_are_of_modules_that_exist(module):
    assert imports_of(module) <= set(SOURCES) | GENERATED | {"hvae_codec.v1"}


def test_no_cycles_among_modules():
    """The public face aside: it imports what is in it only when it is used."""
    below = {name: imports_of(name) - {name, "hvae_codec"} for name in SOURCES}
    while free := {name for name, needs in below.items() if not needs & set(below)}:
        below = {name: needs for name, needs in below.items() if name not in free}
    assert not below


def test_the_server_keeps_to_the_public_face():
    servers = [name for name in SOURCES if name.startswith("hvae_codec.server")]
    used = set().union(*(imports_of(name) for name in servers)) - set(servers) - GENERATED
    assert used <= SERVER_MAY_USE


def test_the_entropy_coders_library_is_known_to_one_file():
    users = {
        name
        for name, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "constriction" in ast.unparse(node).split(".")[0]
    }
    assert users == {"hvae_codec.codec.entropy.range_coder"}


def test_nothing_below_tests_and_benchmarks_imports_them():
    roots = {
        part.name.split(".")[0]
        for path in SOURCES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for part in node.names
    }
    assert not roots & {"tests", "benchmarks", "server"}
