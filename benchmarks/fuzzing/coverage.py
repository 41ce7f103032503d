"""The coverage-guided engine: libFuzzer through atheris, with this package's own mutations.

Atheris counts which branches of the codec's Python code an input takes; inputs that take new ones
become parents. It must be told before the codec is imported which modules to watch.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.mutate import MAX_BYTES
from benchmarks.fuzzing.target import Mutant, Target, different

WATCHED = ["hvae_codec.codec", "hvae_codec.server"]


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def watching() -> AbstractContextManager[Any]:
    """Imports inside are watched."""
    if not available():
        return nullcontext()
    imports: AbstractContextManager[Any] = importlib.import_module("atheris").instrument_imports(
        include=WATCHED
    )
    return imports


def run_guided(
    check: Callable[[Mutant], object],
    target: Target,
    inputs: int,
    seed: int,
    folder: Path,
    finish: Callable[[], None],
) -> None:
    """Check `inputs` mutants, then call `finish` and end the process: libFuzzer never returns."""
    atheris = importlib.import_module("atheris")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number:04}").write_bytes(data)
    made: dict[bytes, Mutant] = {}
    done = 0

    def mutate(data: bytes, max_size: int, rng_seed: int) -> bytes:
        try:
            mutant = different(target, data, random.Random(rng_seed))
        except Exception:  # libFuzzer would never end
            traceback.print_exc()
            os._exit(1)
        made.clear()
        made[mutant.data] = mutant
        return mutant.data

    def run(data: bytes) -> None:
        nonlocal done
        mutant = made.get(data)
        if mutant is None:  # libFuzzer reads its corpus
            target.run(data, whole=False)
            return
        check(mutant)
        done += 1
        if done == inputs:
            finish()
            sys.stdout.flush()
            os._exit(0)

    # -timeout=0: the campaign has its own limit. No memory limit: likewise.
    flags = [f"-seed={seed % 2**31 + 1}", "-timeout=0", "-rss_limit_mb=0", "-len_control=0"]
    flags += ["-mutate_depth=2", "-reduce_inputs=0"]
    flags += [f"-max_len={MAX_BYTES}", "-print_pcs=0", "-reload=0", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], run, custom_mutator=mutate)
    try:
        atheris.Fuzz()
    except BaseException:  # nor does it end by itself after an error of its own
        traceback.print_exc()
    os._exit(1)


def statistics(log: str) -> dict[str, int]:
    """What libFuzzer's log says last of the branches taken and the inputs kept as parents."""
    found = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", log)
    if not found:
        return {}
    return dict(zip(("branches", "features", "corpus"), map(int, found[-1]), strict=True))
