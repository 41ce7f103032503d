"""The page and the metrics of a real server, as a browser and Prometheus ask for them."""

import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

SECONDS = 30


def fetch(server, path, host=None):
    request = urllib.request.Request(server.page + path)
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


class Scrape:
    """The values of one reading."""

    def __init__(self, server):
        status, headers, body = fetch(server, "metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        self.samples = [
            sample
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        ]

    def __call__(self, name, **labels):
        """The sum of the values of a name whose labels are these."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def scraped_when(server, there, seconds=60):
    """The first reading of which `there` holds: much is counted a moment after it happened."""
    deadline = time.monotonic() + seconds
    while not there(scrape := Scrape(server)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return scrape
