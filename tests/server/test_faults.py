"""Processes that die and servers that stop: every request has one answer, or a clear failure."""

import os
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from hvae_codec.client import Client
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image

CALLERS = 6


def children_of(pid):
    """Processes that a process started, as Linux tells."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def coding_processes(server):
    """Children of the one child that has children."""
    found = [
        process
        for child in children_of(server.process.pid)
        if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()
        for process in children_of(child)
    ]
    assert found
    return found


@pytest.fixture
def encode_request(selector, tiles):
    return codec_pb2.EncodeRequest(model=selector, images=map(raw_image, tiles[:8]))


def keep_calling(address, request, found, ended):
    """Call until told to end; counts the outcomes."""
    with grpc.insecure_channel(address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        while not ended.is_set():
            try:
                answer = stub.Encode(request, timeout=60)
                found.append(tuple(result.encoded for result in answer.results))
            except grpc.RpcError as error:
                found.append(error.code())
                return


def test_coding_processes_that_are_killed_cost_no_answer(start_server, selector, tiles):
    server = start_server("--coding-processes", "2", fresh=True)
    # More than is computed in the event loop: these need the processes.
    images = [raw_image(tile) for tile in tiles[:8]] * 16
    encode_request = codec_pb2.EncodeRequest(model=selector, images=images)
    found, ended = [], threading.Event()
    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [
            pool.submit(keep_calling, server.address, encode_request, found, ended)
            for _ in range(CALLERS)
        ]
        for _ in range(3):
            before = len(found)
            while len(found) < before + 4 * CALLERS:
                time.sleep(0.01)
            os.kill(coding_processes(server)[0], signal.SIGKILL)
        before = len(found)
        while len(found) < before + 4 * CALLERS:
            time.sleep(0.01)
        ended.set()
        for call in calls:
            call.result(60)
    (files,) = set(found)  # all the same, and no error among them
    assert len(files) == 128
    assert "starting a new one" in server.log
    processes = coding_processes(server)
    assert server.terminate() == 0
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


def test_a_stop_answers_what_it_took(start_server, encode_request):
    """Callers see answers, then UNAVAILABLE: nothing lost in between, nothing answered twice."""
    server = start_server()
    found, ended = [], threading.Event()
    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [
            pool.submit(keep_calling, server.address, encode_request, found, ended)
            for _ in range(CALLERS)
        ]
        while len(found) < 4 * CALLERS:
            time.sleep(0.01)
        assert server.terminate() == 0
        for call in calls:
            call.result(60)
    outcomes = Counter(found)
    assert outcomes.pop(grpc.StatusCode.UNAVAILABLE) == CALLERS
    (files,) = outcomes
    assert len(files) == 8
    answered = sum("method=Encode code=OK" in line for line in server.log.splitlines())
    assert answered == outcomes[files]


def test_a_stream_ends_after_the_messages_that_were_taken(start_server, encode_request):
    server = start_server("--shutdown-grace-seconds", "20")
    answered = []

    def requests():
        while True:
            yield codec_pb2.StreamEncodeRequest(request=encode_request)
            time.sleep(0.02)

    def read(stream):
        for answer in stream:
            answered.append(len(answer.response.results))
            if len(answered) == 10:
                server.process.send_signal(signal.SIGTERM)

    with grpc.insecure_channel(server.address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        with pytest.raises(grpc.RpcError) as ended:
            read(stub.StreamEncode(requests(), timeout=60))
    assert server.process.wait(120) == 0
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in ended.value.details()
    assert set(answered) == {8}


def test_every_item_once_over_a_kill_and_a_restart(start_server, model, tiles):
    """A client's stream goes on at a new server where the killed one left off."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start_server("--port", str(port))
    pictures = np.concatenate([tiles] * 30)
    restarted = None
    files = []
    with Client(server.address, timeout=120) as client:
        for file in client.encode_stream(pictures, **model):
            files.append(file)
            if len(files) == 40:
                server.process.kill()
                server.process.wait(120)
                restarted = start_server("--port", str(port))
        assert restarted is not None
        once = client.encode(tiles, **model)
    assert files == once * 30
