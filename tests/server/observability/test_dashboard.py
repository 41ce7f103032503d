"""The Grafana dashboard asks for metrics, labels and values that a server exports."""

import json
import re
from pathlib import Path

import grpc
import numpy as np
import pytest

from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image
from tests.server.scraping import scraped_when

DASHBOARD = Path(__file__).parents[3] / "deploy/prometheus/grafana_dashboard.json"
SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
BY = re.compile(r"by \(([\w, ]+)\)")
OF_PROMETHEUS = {"instance", "le"}
SECONDS = 60


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def samples(watched):
    """What a server exports after a call of one image."""
    image = raw_image(np.zeros((28, 28, 1), np.uint8))
    with grpc.insecure_channel(watched.address) as channel:
        codec_pb2_grpc.CodecServiceStub(channel).Encode(
            codec_pb2.EncodeRequest(model={"name": "mnist"}, images=[image]), timeout=SECONDS
        )
    return scraped_when(watched, lambda scrape: scrape("hvae_memory_bytes") > 0).samples


def test_every_metric_and_label_exists(expressions, samples):
    labels = {}
    for sample in samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    for expression in expressions:
        found = SELECTOR.findall(expression)
        assert found, expression
        for name, matchers in found:
            assert name in labels, f"{name} of {expression}"
            named = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers))
            assert named <= labels[name] | OF_PROMETHEUS, expression
            for group in BY.findall(expression):
                assert set(group.split(", ")) <= labels[name] | OF_PROMETHEUS, expression
        assert expression.count("{") == len(found)
        assert expression.count("(") == expression.count(")")


def test_counters_are_rates_and_quantiles_are_of_buckets(expressions, samples):
    for expression in expressions:
        for name, _ in SELECTOR.findall(expression):
            is_counter = name.endswith(("_total", "_sum", "_count", "_bucket"))
            before = expression.partition(f"{name}{{")[0]
            assert before.endswith(("rate(", "increase(")) == is_counter, expression
        assert ("histogram_quantile" in expression) == ("_bucket" in expression)


def test_panels_do_not_overlap_and_name_a_unit(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
