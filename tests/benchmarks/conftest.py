"""One rate-distortion run of the ladder over two small photographs, with all that it writes."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests.photographs import two_crops


@pytest.fixture(scope="session")
def photographs():
    return two_crops()


@pytest.fixture(scope="session")
def folder(photographs, tmp_path_factory):
    place = tmp_path_factory.mktemp("photographs")
    for index, picture in enumerate(photographs):
        Image.fromarray(picture).save(place / f"{index}.png")
    return place


@pytest.fixture(scope="session")
def run(folder, tmp_path_factory):
    """The result of a run, as its JSON has it, and the paths of what it wrote."""
    from benchmarks.rate_distortion import __main__  # takes seconds to import

    place = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    try:
        __main__.BENCHMARK.main(
            [f"--dataset={folder}", "--model=cifar10", f"--json={place / 'rd.json'}"]
        )
    finally:
        torch.set_num_threads(threads)
    return SimpleNamespace(
        result=json.loads((place / "rd.json").read_text()),
        curves=place / "rd.png",
        sheet=place / "rd_sheet.png",
    )
