"""Which content type answers a request, of those that its `Accept` headers name."""

from collections.abc import Sequence


def accepted(headers: Sequence[str], offered: Sequence[str]) -> str | None:
    """The offered type that a caller likes best, the first of equals; None where it takes none."""
    ranges = [_parsed(each) for header in headers for each in header.split(",") if each.strip()]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    return best if _quality(best, ranges) > 0 else None


def _parsed(text: str) -> tuple[str, float]:
    """A range and its quality; 0 of one that is malformed."""
    name, *parameters = (each.strip().lower() for each in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return name, quality if 0 <= quality <= 1 else 0.0


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """How much a type is liked: by the most exact range that has it."""
    for wanted in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        for name, quality in ranges:
            if name == wanted:
                return quality
    return 0.0
