"""What the server's flags hold besides numbers and words, as `argparse` takes types."""

import argparse
from pathlib import Path
from urllib.parse import urlsplit


def parse_port(text: str) -> int:
    """A port, as a flag names it."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, got {number}")
    return number


def parse_seconds(text: str) -> float:
    """A finite duration."""
    duration = float(text)
    if not 0 <= duration < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds must be finite and at least 0, got {text}")
    return duration


def parse_directory(text: str) -> Path:
    """A directory that exists."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return path


def parse_collector(text: str) -> str:
    """A URL that OTLP over gRPC takes."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and not any(each.isspace() for each in text)
    except ValueError:  # of a port that is no number or above 65,535
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(
            f"a collector is http://HOST:PORT or https://HOST:PORT, with a port of 1 to 65535, "
            f"got {text!r}"
        )
    return text
