"""Short campaigns find nothing in the codec, and all that is wrong where something is."""

import random
import signal
import time

import numpy as np
import pytest

import hvae_codec
from benchmarks.common import photographs_crops
from benchmarks.fuzzing import __main__
from benchmarks.fuzzing import campaign as campaign_module
from benchmarks.fuzzing.archives import ArchiveTarget
from benchmarks.fuzzing.campaign import Campaign, run_plain
from benchmarks.fuzzing.files import FileTarget, sealed
from benchmarks.fuzzing.mutate import changed
from benchmarks.fuzzing.requests import RequestTarget
from benchmarks.fuzzing.target import Mutant, Outcome, different
from hvae_codec.codec.bitstream import container
from hvae_codec.codec.bitstream.header import parse, read_header
from hvae_codec.codec.bitstream.varint import write_varint
from hvae_codec.codec.entropy import tile_coder

KINDS = {"files": FileTarget, "archives": ArchiveTarget, "requests": RequestTarget}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def targets():
    return {kind: make() for kind, make in KINDS.items()}


def run(target, inputs, seed=0, whole_every=100):
    done = Campaign(target, whole_every=whole_every)
    run_plain(done, target, inputs, seed, lambda: None)
    return done.report()


@pytest.mark.parametrize(
    ("kind", "inputs", "stages"),
    [
        ("files", 4000, {"header", "16-bit check", "32-bit check", "behind the check", "read"}),
        ("archives", 500, {"not opened", "recovered", "damaged", "read"}),
        ("requests", 200, {"not parsed", "decode: OK", "decode: DATA_LOSS", "encode: OK"}),
    ],
)
def test_a_short_campaign_finds_nothing_and_gets_everywhere(targets, kind, inputs, stages):
    report = run(targets[kind], inputs)
    assert report["inputs"] == inputs
    assert report["findings"] == []
    assert report["undetected"] == []
    assert stages <= set(report["stages"])
    assert sum(report["stages"].values()) == inputs
    assert report["worst"]["resident_bytes"] < campaign_module.ALLOWED_BYTES


def test_equal_seeds_give_equal_inputs(targets):
    made = []
    for _ in range(2):
        rng = random.Random(7)
        target = targets["files"]
        made.append([different(target, target.seeds[0], rng) for _ in range(300)])
    assert made[0] == made[1]
    assert len({mutant.data for mutant in made[0]}) > 250


def test_sealed_forgeries_get_past_the_check_of_the_file(targets):
    """What is done to a payload alone is behind the check once its sums are made right."""
    target, rng = targets["files"], random.Random(1)
    for data in target.seeds:
        payload = changed(data[-8:], rng, target.seeds)
        assert target.run(sealed(data[:-8] + payload), whole=False).stage in {
            "read",
            "behind the check",
        }
        assert sealed(data) == data


def test_a_decoder_that_skips_the_checks_is_caught(targets, monkeypatch):
    monkeypatch.setattr(container, "verify_file", lambda data, frame: data[frame.payload_at :])
    monkeypatch.setattr(container, "verify_first_layer", lambda data, frame, layer: None)
    assert run(targets["files"], 400)["undetected_changes"] > 20


def test_a_decoder_that_trusts_counts_is_caught(targets, monkeypatch):
    """Without the bound on tiles a forged count takes memory out of proportion."""
    monkeypatch.setattr(tile_coder.TileCoder, "_check_plausible", lambda *arguments: None)
    monkeypatch.setattr(campaign_module, "INPUT_SECONDS", 200.0)  # memory alone is at stake
    crops = photographs_crops()[:2, :28, :28, :1]
    data = hvae_codec.load("mnist", quality=1).encode_block(crops)
    count_at = len(data) - parse(data).payload_bytes - 2
    assert data[count_at] == 2
    forged = sealed(data[:count_at] + write_varint(70_000) + b"\0")  # no payload: zero bits
    assert read_header(forged).count == 70_000
    checked = Campaign(targets["files"], whole_every=1000)
    checked.check(Mutant(forged, data, forged=True))
    for _ in range(63):  # the resident memory is looked at once in 64 inputs
        checked.check(Mutant(data, data, forged=True))
    assert checked.findings
    assert checked.findings[0]["problem"].startswith("resident_bytes: ")


class _Fake:
    """A kind of input whose reader does what a test says."""

    check_bits = {}  # noqa: RUF012

    def __init__(self, read):
        self.seeds = []
        self._read = read

    def run(self, data, *, whole):
        return self._read(data)


def findings_of(read, inputs=64):
    checked = Campaign(_Fake(read), whole_every=1000)
    for number in range(inputs):
        checked.check(Mutant(bytes([number]), b"", forged=True))
    return [finding["problem"] for finding in checked.findings]


def test_other_errors_are_caught():
    def read(data):
        if data == b"\x05":
            raise IndexError("list index out of range")
        return Outcome("read")

    assert findings_of(read) == ["IndexError: list index out of range"]


def test_memory_is_caught_to_the_very_input():
    def read(data):
        if data == b"\x09":
            np.ones(100 * 2**20, np.uint8)
        return Outcome("read")

    (problem,) = findings_of(read)
    assert problem.startswith("resident_bytes: 10")
    assert problem.endswith("for an input of 1 bytes")


def test_hangs_are_caught(monkeypatch):
    monkeypatch.setattr(campaign_module, "INPUT_SECONDS", 0.05)

    def ring(number, frame):
        raise TimeoutError("too long")

    def read(data):
        if data == b"\x03":
            time.sleep(5)
        return Outcome("read")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        assert findings_of(read, inputs=10) == ["TimeoutError: too long"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_reports_of_pieces_add_up():
    one = {"inputs": 2, "stages": {"a": 1, "b": 1}, "worst": {"seconds": 0.5}, "findings": ["x"]}
    other = {"inputs": 3, "stages": {"b": 3}, "worst": {"seconds": 0.25}, "findings": []}
    joined = __main__.joined([one, other])
    assert joined["inputs"] == 5
    assert joined["stages"] == {"b": 4, "a": 1}
    assert joined["worst"] == {"seconds": 0.5}
    assert joined["findings"] == ["x"]
