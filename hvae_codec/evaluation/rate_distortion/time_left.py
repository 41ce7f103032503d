"""How long a measurement of codecs of very different speeds will take."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from hvae_codec.utils.progress import progress


class TimeLeft:
    """Estimate from the seconds per unit of work of each kind of job that were seen so far.

    A kind that none was seen of is taken to be as fast as the mean of the others.
    """

    def __init__(self, work: Mapping[Hashable, float], workers: int) -> None:
        """work: units of each kind that are to be done, such as pixels; workers: jobs at a time."""
        self._left = dict(work)
        self._workers = workers
        self._seen: dict[Hashable, tuple[float, float]] = {}

    def done(self, kind: Hashable, units: float, seconds: float) -> None:
        """Note a job: so many units of a kind in so many seconds of one worker."""
        before = self._seen.get(kind, (0.0, 0.0))
        self._seen[kind] = (before[0] + units, before[1] + seconds)
        self._left[kind] -= units

    def seconds(self) -> float | None:
        """Seconds until everything is done; None before the first job is."""
        rates = {kind: seconds / units for kind, (units, seconds) in self._seen.items()}
        if not rates:
            return None
        mean = sum(rates.values()) / len(rates)
        left = sum(units * rates.get(kind, mean) for kind, units in self._left.items())
        return max(0.0, left / self._workers)


class Progress:
    """A bar or lines of progress with this time left."""

    def __init__(self, what: str, jobs: int, left: TimeLeft) -> None:
        """what: is measured; jobs: how many there are."""
        self._left = left
        self._bar = progress(what, total=jobs, unit="jobs", leave=False, estimated=False)

    def advance(self, kind: Hashable, units: float, seconds: float) -> None:
        """Note a job, as `TimeLeft.done` takes it."""
        self._left.done(kind, units, seconds)
        self._bar.set_postfix_str(f"{in_words(self._left.seconds())} left", refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def in_words(seconds: float | None) -> str:
    """A duration such as "1 h 05 min", "12 min" or "40 s"."""
    if seconds is None:
        return "unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
