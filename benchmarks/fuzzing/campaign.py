"""Runs inputs of one kind and holds every one of them to what the codec promises."""

from __future__ import annotations

import hashlib
import mmap
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.memory import ResidentPeak, limit_address_space, traced_peak
from benchmarks.fuzzing.mutate import MAX_BYTES
from benchmarks.fuzzing.target import Mutant, Outcome, Target, different

INPUT_SECONDS = 10.0
ALLOWED_FACTOR, ALLOWED_BYTES = 16, 64 * 2**20
HEADROOM_BYTES = 2**30

_BATCH = 64  # inputs between two looks at the resident memory
_TRACED_EVERY = 211
_KEPT_FINDINGS = 20
_KEPT_FORGERIES = 1_000_000
_LENGTH_BYTES = 4


class CurrentInput:
    """The input in work, in a file that outlives the process, whatever ends it."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_LENGTH_BYTES + MAX_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def set(self, data: bytes) -> None:
        """Say which input is in work."""
        self._map[:_LENGTH_BYTES] = len(data).to_bytes(_LENGTH_BYTES, "big")
        self._map[_LENGTH_BYTES : _LENGTH_BYTES + len(data)] = data

    @staticmethod
    def read(path: Path) -> bytes:
        """The input that was in work when a process ended."""
        content = path.read_bytes()
        length = int.from_bytes(content[:_LENGTH_BYTES], "big")
        return content[_LENGTH_BYTES : _LENGTH_BYTES + length]


class Campaign:
    """A number of mutated inputs of one kind, each checked; `report` says what was found.

    An input must raise nothing but the library's own errors, end within INPUT_SECONDS (else the
    process ends by SIGALRM), take at most ALLOWED_FACTOR times its length and ALLOWED_BYTES of
    memory, and mean nothing new unless it is a forgery.

    Memory is measured in three ways: growth of resident memory over each batch of inputs, and of
    each single input of a batch that grew too far; what Python and NumPy allocate, for one input in
    211; and no input can take HEADROOM_BYTES of address space, touched or not.
    """

    def __init__(
        self,
        target: Target,
        *,
        whole_every: int,
        current: CurrentInput | None = None,
        guarded: bool = False,
    ) -> None:
        self._target = target
        self._whole_every = whole_every
        self._current = current
        self._peak = ResidentPeak()
        self._batch: list[Mutant] = []
        self._forgeries: set[int] = set()
        self._forged_meanings: set[int] = set()
        self._seed_meanings: set[int] = set()
        self.inputs = self.forged = self.whole = 0
        self.stages: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()  # check sums that unforged inputs came to
        self.passed: Counter[str] = Counter()
        self.findings: list[dict[str, Any]] = []
        self.undetected: list[dict[str, Any]] = []
        self.worst: dict[str, float] = dict.fromkeys(
            ("seconds", "resident_bytes", "traced_bytes"), 0.0
        )
        for seed in target.seeds:
            outcome = target.run(seed, whole=True)
            if outcome.refusal:
                raise ValueError(f"a seed is refused: {outcome.refusal}")
            self._seed_meanings |= outcome.meaning
        if guarded:
            limit_address_space(HEADROOM_BYTES)
        self._peak.start()
        self._started = time.monotonic()

    def check(self, mutant: Mutant) -> Outcome | None:
        """Run one input; None if it raised what it must not."""
        self.inputs += 1
        self.forged += mutant.forged
        whole = self.inputs % self._whole_every == 0
        self.whole += whole
        if self._current is not None:
            self._current.set(mutant.data)
        signal.setitimer(signal.ITIMER_REAL, INPUT_SECONDS)
        start = time.perf_counter()
        outcome = self._run(mutant, whole)
        self.worst["seconds"] = max(self.worst["seconds"], time.perf_counter() - start)
        if outcome is not None:
            self._count(mutant, outcome)
        if self.inputs % _TRACED_EVERY == 0:
            peak = traced_peak(lambda: self._run(mutant, whole))
            self._hold_to_limit(mutant, peak, "traced_bytes")
        self._look_at_memory(mutant)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return outcome

    def report(self) -> dict[str, Any]:
        """All counts so far."""
        expected = sum(
            self.reached[stage] / 2.0**bits for stage, bits in self._target.check_bits.items()
        )
        return {
            "inputs": self.inputs,
            "forged_with_sound_check_sums": self.forged,
            "through_the_networks": self.whole,
            "seconds": time.monotonic() - self._started,
            "stages": dict(self.stages.most_common()),
            "unforged_that_reached": dict(self.reached),
            "unforged_that_passed_the_first_check": dict(self.passed),
            "expected_to_pass_it": expected,
            "undetected_changes": len(self.undetected),
            "undetected": self.undetected[:_KEPT_FINDINGS],
            "findings": self.findings[:_KEPT_FINDINGS],
            "number_of_findings": len(self.findings),
            "worst": self.worst,
            "refusals": dict(self.refusals.most_common()),
        }

    def _run(self, mutant: Mutant, whole: bool) -> Outcome | None:
        try:
            return self._target.run(mutant.data, whole=whole)
        except Exception as error:  # whatever it is, it is what no reader may raise
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
            self._find(mutant, f"{type(error).__name__}: {error}", where)
            return None

    def _find(self, mutant: Mutant, problem: str, where: list[str]) -> None:
        self.findings.append(
            {
                "problem": problem[:300],
                "where": where,
                "forged": mutant.forged,
                "sha256": hashlib.sha256(mutant.data).hexdigest(),
                "input": mutant.data[:4096].hex(),
            }
        )

    def _count(self, mutant: Mutant, outcome: Outcome) -> None:
        self.stages[outcome.stage] += 1
        if outcome.refusal:
            self.refusals[outcome.refusal] += 1
        fingerprint = hash(mutant.data)
        if mutant.forged:
            if len(self._forgeries) < _KEPT_FORGERIES:
                self._forgeries.add(fingerprint)
                self._forged_meanings |= outcome.meaning
            return
        if fingerprint in self._forgeries:  # changed back into one of them
            return
        if outcome.stage in self._target.check_bits:
            self.reached[outcome.stage] += 1
        elif outcome.stage == "behind the check":
            self.passed["behind"] += 1
        unknown = outcome.meaning - self._seed_meanings - self._forged_meanings
        if unknown:
            parent = self._target.run(mutant.parent, whole=False)
            unknown -= parent.meaning
            # Blocks of an archive that were hidden, and sound, may come to light by the search.
            if outcome.stage == "recovered" and parent.stage != "read":
                unknown = frozenset()
        if unknown:
            self.passed["read"] += outcome.stage == "read"
            self.undetected.append(
                {"parent": mutant.parent[:512].hex(), "input": mutant.data[:512].hex()}
            )

    def _look_at_memory(self, mutant: Mutant) -> None:
        self._batch.append(mutant)
        if len(self._batch) < _BATCH:
            return
        growth = self._peak.growth()
        if growth <= ALLOWED_BYTES:
            self.worst["resident_bytes"] = max(self.worst["resident_bytes"], growth)
        else:
            for suspect in self._batch:
                self._peak.start()
                self._run(suspect, whole=True)
                self._hold_to_limit(suspect, self._peak.growth(), "resident_bytes")
        self._batch.clear()
        self._peak.start()

    def _hold_to_limit(self, mutant: Mutant, used: int, name: str) -> None:
        self.worst[name] = max(self.worst[name], used)
        allowed = ALLOWED_FACTOR * len(mutant.data) + ALLOWED_BYTES
        if used > allowed:
            self._find(mutant, f"{name}: {used:,} for an input of {len(mutant.data):,} bytes", [])


def run_plain(
    campaign: Campaign, target: Target, inputs: int, seed: int, progress: Callable[[], None]
) -> dict[str, int]:
    """Without coverage: parents are the seeds, and one input for each new way to be refused."""
    rng = random.Random(seed)
    corpus = list(target.seeds)
    seen: set[str] = set()
    while campaign.inputs < inputs:
        mutant = different(target, rng.choice(corpus), rng)
        outcome = campaign.check(mutant)
        if outcome is not None and outcome.stage + outcome.refusal not in seen:
            seen.add(outcome.stage + outcome.refusal)
            corpus.append(mutant.data)
        progress()
    return {"corpus": len(corpus)}
