"""One definition of each setting: flags, defaults and Ray's arguments come from it."""

import argparse

import pytest

from hvae_codec.server.options import add_flags, arguments_of, build
from hvae_codec.server.settings import Settings, Warm


def parsed(*flags):
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    return build(Settings, vars(parser.parse_args(flags)))


def test_without_flags_all_has_its_default():
    assert parsed() == Settings()


def test_flags_set_fields_of_all_parts():
    settings = parsed(
        *("--batch-delay-ms", "20", "--max-items", "7", "--grace", "3", "--share-port"),
        *("--warm", "mnist", "--warm", "photo@40", "--max-connection-age-grace", "60"),
    )
    assert settings.engine.batches.delay_seconds == 0.02
    assert settings.limits.items == 7
    assert settings.warm == (Warm("mnist"), Warm("photo", 40.0))
    assert settings.age.seconds == pytest.approx(3 / 1.15)
    assert settings.age.grace_seconds == 60


def test_names_of_arguments_are_those_of_flags():
    assert {"host", "max_message_bytes", "tls_key", "batch_delay_ms", "capacity_bytes"} <= set(
        arguments_of(Settings)
    )
    assert build(Settings, {"capacity_items": 5}).capacity.items == 5
    assert arguments_of(Settings)["batch_delay_ms"] == (float, 10.0)
