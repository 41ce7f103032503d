"""The counters that Prometheus reads from a real server, after calls whose numbers are known."""

import json
import statistics
import threading
import time
from collections import Counter
from contextlib import suppress

import grpc
import numpy as np
import pytest

import hvae_codec.server
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.scraping import Scrape, fetch, scraped_when

SECONDS = 30
MODEL = codec_pb2.ModelSelector(name="mnist", quality=1)


@pytest.fixture(scope="module")
def stub(watched):
    with grpc.insecure_channel(watched.address) as channel:
        yield codec_pb2_grpc.CodecServiceStub(channel)


def images(count, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), np.uint8)
    raws = [
        codec_pb2.RawImage(height=28, width=28, channels=1, data=each.tobytes()) for each in pixels
    ]
    return [codec_pb2.Image(raw=raw) for raw in raws]


def test_calls_items_bytes_and_batches_are_counted(stub, watched):
    before = Scrape(watched)
    request = codec_pb2.EncodeRequest(model=MODEL, images=images(5))
    encoded = stub.Encode(request, timeout=SECONDS)
    files = [result.encoded for result in encoded.results]
    stub.Decode(codec_pb2.DecodeRequest(encoded=[*files, b"damaged"]), timeout=SECONDS)
    wrong = codec_pb2.ModelSelector(name="no such model")
    with pytest.raises(grpc.RpcError):
        stub.Encode(codec_pb2.EncodeRequest(model=wrong, images=images(1)), timeout=SECONDS)
    after = scraped_when(watched, lambda scrape: scrape("hvae_calls_in_flight") == 0)

    def change(name, **labels):
        return after(name, **labels) - before(name, **labels)

    assert change("hvae_requests_total", method="Encode", code="OK") == 1
    assert change("hvae_requests_total", method="Encode", code="NOT_FOUND") == 1
    assert change("hvae_request_duration_seconds_count", method="Encode") == 2
    assert change("hvae_items_total", method="Encode", code="OK") == 5
    assert change("hvae_items_total", method="Decode", code="OK") == 5
    assert change("hvae_items_total", method="Decode", code="INVALID_ARGUMENT") == 1
    assert change("hvae_received_bytes_total", method="Encode") > request.ByteSize()
    assert change("hvae_sent_bytes_total", method="Encode") == encoded.ByteSize()
    assert change("hvae_batch_items_sum", model="mnist-q1", kind="encode") == 5
    assert change("hvae_batch_items_sum", model="mnist-q1", kind="decode") == 5
    assert change("hvae_batch_duration_seconds_sum", model="mnist-q1") > 0
    for kind in ("encode", "decode"):
        assert change("hvae_image_bytes_total", model="mnist-q1", kind=kind) == 5 * 28 * 28
        counted = change("hvae_encoded_bytes_total", model="mnist-q1", kind=kind)
        assert counted == sum(map(len, files))
    assert after("hvae_calls_in_flight") == 0
    assert not any("no such model" in str(sample.labels) for sample in after.samples)


def test_bytes_of_a_search_are_counted(stub, watched):
    before = Scrape(watched)
    model = codec_pb2.ModelSelector(name="mnist", target_bytes=60)
    request = codec_pb2.EncodeRequest(model=model, images=images(2))
    answer = stub.Encode(request, timeout=SECONDS)
    after = Scrape(watched)
    wanted = {"image_bytes": 2 * 28 * 28}
    wanted["encoded_bytes"] = sum(len(result.encoded) for result in answer.results)
    assert wanted["encoded_bytes"] > 0
    for name, count in wanted.items():
        labels = {"model": "mnist", "kind": "encode"}
        assert (
            after(f"hvae_{name}_total", **labels) - before(f"hvae_{name}_total", **labels) == count
        )


def test_messages_of_streams_are_requests(stub, watched):
    before = Scrape(watched)
    good = codec_pb2.EncodeRequest(model=MODEL, images=images(2))
    wrong = codec_pb2.EncodeRequest(model=MODEL)
    messages = [codec_pb2.StreamEncodeRequest(request=each) for each in (good, wrong, good)]
    answers = list(stub.StreamEncode(iter(messages), timeout=SECONDS))
    assert [answer.HasField("status") for answer in answers] == [False, True, False]
    after = scraped_when(watched, lambda scrape: scrape("hvae_calls_in_flight") == 0)

    def change(name, **labels):
        labels["method"] = "StreamEncode"
        return after(name, **labels) - before(name, **labels)

    assert change("hvae_requests_total", code="OK") == 2
    assert change("hvae_requests_total", code="INVALID_ARGUMENT") == 1
    assert change("hvae_request_duration_seconds_count") == 3
    assert change("hvae_items_total", code="OK") == 4
    assert change("hvae_streams_total", code="OK") == 1


def test_calls_are_logged_as_they_are_counted(stub, watched):
    """Also those whose answer is ready about when its caller stops waiting."""
    request = codec_pb2.EncodeRequest(model=MODEL, images=images(1))
    took = []
    for _ in range(9):
        began = time.monotonic()
        stub.Encode(request, timeout=SECONDS)
        took.append(time.monotonic() - began)
    before = Scrape(watched)
    for number in range(150):
        seconds = statistics.median(took) * (5 + number % 20) / 12  # 0.4 to 2 times
        metadata = [("x-request-id", f"tight-{number}")]
        with suppress(grpc.RpcError):
            stub.Encode(request, metadata=metadata, timeout=seconds)

    def counted(after):
        found = {}
        for code in ("OK", "DEADLINE_EXCEEDED", "CANCELLED"):
            labels = {"method": "Encode", "code": code}
            found[code] = after("hvae_requests_total", **labels)
            found[code] -= before("hvae_requests_total", **labels)
        return {code: count for code, count in found.items() if count}

    def logged():
        lines = [json.loads(line) for line in watched.log.splitlines()]
        return Counter(
            line["code"]
            for line in lines
            if line["message"] == "call" and line["request_id"].startswith("tight-")
        )

    def equal(scrape):
        return scrape("hvae_calls_in_flight") == 0 and counted(scrape) == logged()

    scraped_when(watched, equal)
    assert logged()["OK"] > 0
    assert logged().total() > 75  # the server never hears of a few


def test_streams_that_are_given_up(stub, watched):
    """Many: to the server, one that is given up looks at first like one that is over."""
    calls, over = 30, threading.Event()
    labels = {"method": "StreamEncode"}
    before = Scrape(watched)

    def silent():
        over.wait(SECONDS)
        yield from ()

    try:
        for _ in range(calls):
            call = stub.StreamEncode(silent(), timeout=SECONDS)
            scraped_when(watched, lambda scrape: scrape("hvae_calls_in_flight", **labels) == 1)
            call.cancel()
            after = scraped_when(
                watched, lambda scrape: scrape("hvae_calls_in_flight", **labels) == 0
            )
    finally:
        over.set()
    codes = {
        sample.labels["code"]: sample.value - before(sample.name, **sample.labels)
        for sample in after.samples
        if sample.name == "hvae_streams_total" and labels.items() <= sample.labels.items()
    }
    assert {code: count for code, count in codes.items() if count} == {"CANCELLED": calls}


def test_gauges_of_the_moment(watched):
    # Looked up soon after the start.
    scrape = scraped_when(watched, lambda scrape: scrape("hvae_memory_bytes") > 0)
    assert scrape("hvae_cpu_seconds_total") > 1
    assert scrape("hvae_memory_bytes") > 100 * 2**20
    names = {sample.name for sample in scrape.samples}
    assert {"hvae_queued_items", "hvae_queued_bytes", "hvae_waiting_items"} <= names
    assert scrape("process_resident_memory_bytes") > 50 * 2**20
    assert scrape("hvae_queued_items") == 0


def test_what_only_grows_is_a_counter(watched):
    """And is named as one: Prometheus' functions of rates are for these alone."""
    kinds = {}
    for line in fetch(watched, "metrics")[2].decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            kinds[name] = kind
    for name in ("rejected_calls", "worker_restarts", "cpu_seconds", "log_lines_dropped"):
        assert kinds[f"hvae_{name}_total"] == "counter"
        assert f"hvae_{name}" not in kinds
    own = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    gauges = {name for name, kind in own.items() if kind == "gauge" and "hvae_" in name}
    growing = ("rejected", "restarts", "dropped", "ended", "total")
    assert not [name for name in gauges if any(word in name for word in growing)]


def test_health_and_live_figures(watched):
    assert fetch(watched, "healthz")[::2] == (200, b"SERVING\n")
    status, _, body = fetch(watched, "live")
    assert status == 200
    live = json.loads(body)
    assert live["serving"] is True
    assert live["uptime_seconds"] > 0
    assert live["process_resident_memory_bytes"] > 50 * 2**20
    assert isinstance(live["hvae_requests_total"], list)


def test_probes_of_health_are_not_counted(watched):
    scrape = Scrape(watched)
    assert not any("Check" in str(sample.labels) for sample in scrape.samples)


def test_another_name_for_this_machine_is_not_answered(watched):
    for host in ("example.org", "metrics.example.org:80", "192.0.2.1:9"):
        assert fetch(watched, "metrics", host)[0] == 421
    port = watched.page.rstrip("/").rpartition(":")[2]
    assert fetch(watched, "metrics", f"localhost:{port}")[0] == 200
    assert fetch(watched, "metrics", f"LOCALHOST:{port}")[0] == 200


def test_a_port_that_is_taken(watched, capsys):
    port = watched.page.rstrip("/").rpartition(":")[2]
    assert hvae_codec.server.main(["--port", "0", "--metrics-port", port]) == 1
    message = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in message
    assert "Traceback" not in message


def test_without_the_flag_there_is_no_port(server):
    import psutil

    listening = [
        each
        for each in psutil.Process(server.process.pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    assert len(listening) == 1
