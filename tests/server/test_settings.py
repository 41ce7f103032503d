"""One definition of each setting: flags, defaults and Ray's arguments come from it."""

import argparse

import pytest

from hvae_codec.server.settings import Preload, Settings
from hvae_codec.utils.options import add_flags, arguments_of, build


def parsed(*flags):
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    return build(Settings, vars(parser.parse_args(flags)))


def test_without_flags_all_has_its_default():
    assert parsed() == Settings()


def test_flags_set_fields_of_all_parts():
    settings = parsed(
        *("--max-batch-delay-ms", "20", "--max-items", "7"),
        *("--shutdown-grace-seconds", "3", "--reuse-port"),
        *("--preload", "mnist", "--preload", "photo@40", "--max-connection-age-grace", "60"),
    )
    assert settings.engine.batches.delay_seconds == 0.02
    assert settings.limits.items == 7
    assert settings.preload == (Preload("mnist"), Preload("photo", 40.0))
    assert settings.age.seconds == pytest.approx(3 / 1.15)
    assert settings.age.grace_seconds == 60


def test_names_of_arguments_are_those_of_flags():
    assert {
        "host",
        "max_message_bytes",
        "tls_key",
        "max_batch_delay_ms",
        "max_queued_bytes",
    } <= set(arguments_of(Settings))
    assert build(Settings, {"max_queued_items": 5}).capacity.items == 5
    assert arguments_of(Settings)["max_batch_delay_ms"] == (float, 10.0, "batch_delay_ms")


def test_spellings_of_the_last_release_work_and_are_not_in_the_help():
    old = [
        "--warm",
        "mnist",
        "--warm",
        "photo",
        "--grace",
        "3",
        "--share-port",
        "--batch-items",
        "8",
        "--batch-delay-ms",
        "20",
        "--capacity-items",
        "5",
        "--capacity-bytes",
        "6",
    ]
    new = [
        "--preload",
        "mnist",
        "--preload",
        "photo",
        "--shutdown-grace-seconds",
        "3",
        "--reuse-port",
        "--max-batch-items",
        "8",
        "--max-batch-delay-ms",
        "20",
        "--max-queued-items",
        "5",
        "--max-queued-bytes",
        "6",
    ]
    assert parsed(*old) == parsed(*new)
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    words = parser.format_help().replace("\n", " ").split()
    flags = {word.strip("[],;") for word in words if "--" in word}
    assert flags.isdisjoint(flag for flag in old if flag.startswith("--"))
    assert flags.issuperset(flag for flag in new if flag.startswith("--"))
