"""Fields of dataclasses as flags: what their types take, and what is refused."""

import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from hvae_codec.errors import SpecError
from hvae_codec.utils.options import add_flags, build, check_options, given_fields, option


@dataclass(frozen=True)
class Run:
    name: str = "mine"  # no option
    kind: Literal["a", "b"] = option("a", "kind")
    stride: Literal[1, 2, 4] = option(1, "stride")
    epochs: int = option(3, "epochs", least=1)
    limit: int | None = option(None, "limit", least=0)
    rate: float = option(0.5, "rate", flag="learning-rate", old="rate")
    flips: bool = option(False, "flips")


def parsed(flags="", without=()):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, Run, without=without)
    return vars(parser.parse_args(flags.split()))


def test_flags_take_what_the_types_of_fields_say():
    given = parsed("--kind b --stride 4 --epochs 2 --limit 0 --learning-rate 1 --flips")
    assert build(Run, given) == Run("mine", "b", 4, 2, 0, 1.0, True)
    assert build(Run, parsed("--rate 2 --no-flips")).rate == 2.0
    assert build(Run, parsed()) == Run()


@pytest.mark.parametrize(
    "flags", ["--kind c", "--stride 3", "--epochs 0", "--epochs 1.5", "--limit -1", "--rate x"]
)
def test_other_values_are_refused(flags):
    with pytest.raises(argparse.ArgumentError):
        parsed(flags)


def test_fields_that_are_left_out_are_not_given():
    given = parsed(without=("epochs", "rate"))
    assert given_fields(Run, given).keys() == {"kind", "stride", "limit", "flips"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0; at least 1 is allowed"),
        ({"limit": -1}, "limit -1; at least 0 is allowed"),
        ({"kind": "c"}, "kind 'c'; allowed: a, b"),
        ({"stride": 3}, "stride 3; allowed: 1, 2, 4"),
    ],
)
def test_values_of_fields_are_checked(change, message):
    check_options(Run(), SpecError)
    with pytest.raises(SpecError, match=message):
        check_options(Run(**change), SpecError)
