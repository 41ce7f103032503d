"""What the benchmarks share: where results go, what machine they ran on, JSON written whole."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.tiled.networks import Networks
from hvae_codec.codec.tiled.transform import TiledTransform
from hvae_codec.utils.atomic_files import write_atomically

RESULTS = Path(__file__).parent / "results"


def environment(*packages: str) -> dict[str, Any]:
    """The machine and the versions that a result depends on."""
    names = ("torch", "numpy", "constriction", *packages)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write `result` so that the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())
    print(f"written to {path}")


def in_turns(
    module: str, names: Sequence[str], options: Sequence[str], rounds: int
) -> dict[str, list[float]]:
    """The last number that `python -m module options --only name` prints, for every name in each
    round: in processes of their own, and in turns, as the machine may be busier at one time than at
    another.
    """
    printed: dict[str, list[float]] = {name: [] for name in names}
    for _ in tqdm(range(rounds), desc="rounds", leave=False, disable=None):
        for name, values in printed.items():
            command = [sys.executable, "-m", module, *options, "--only", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            values.append(float(done.stdout.split()[-1]))
    return printed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def filled(text: str, parts: Mapping[str, Callable[[], str]], page: str) -> str:
    """The text of a page with what stands between <!-- NAME --> and <!-- end NAME --> replaced by
    its newest form, for every part.
    """
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"{page} needs one place for {name!r}")
        # A backslash in a part would otherwise be read as that of a template.
        text = pattern.sub(rf"\g<1>{part().replace(chr(92), chr(92) * 2)}\n\g<2>", text)
    return text


def tiled_networks(codec: Codec) -> Networks:
    """The networks of a codec of tiles."""
    assert isinstance(codec.transform, TiledTransform)
    return codec.transform.networks
