"""Work whose callers are gone ends at its next step: in threads, and in coding processes."""

import asyncio
import io
import time
import urllib.request

import grpc
import numpy as np
import psutil
import pytest
from PIL import Image

from hvae_codec.client import Client, ServiceError
from hvae_codec.server.engine.batcher import Batcher
from hvae_codec.server.engine.coding_pool import CodingPool
from hvae_codec.server.settings import BatchLimits
from hvae_codec.utils.cancellation import (
    Cancellation,
    CancelledWorkError,
    cancelled_by,
    check,
)
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image
from tests.server.scraping import scraped_when

CPU_SECONDS = 3.0
"""What work may take after its cancellation: other programs change it less than the time."""


@pytest.fixture(scope="module")
def busy(start_server):
    flags = ("--coding-processes", "1", "--metrics-port", "0", "--log-format", "json")
    server = start_server(*flags, fresh=True)  # whose processes are its own
    with Client(server.address) as client:  # what is loaded first takes a moment
        picture = np.zeros((64, 64, 3), np.uint8)
        for model in ("cifar10", "photo"):
            client.evaluate(picture, model=model)
            client.encode([picture], model=model, max_bytes=10_000)
    yield server
    assert "Traceback" not in server.log, server.log


def cpu_seconds(server):
    """What all its processes took."""
    whole = psutil.Process(server.process.pid)
    times = [each.cpu_times() for each in (whole, *whole.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def cpu_until_quiet(server):
    """Processor seconds that the server takes until it takes next to nothing of a core."""
    first, deadline = cpu_seconds(server), time.monotonic() + 60
    while time.monotonic() < deadline:
        before, since = cpu_seconds(server), time.monotonic()
        time.sleep(0.25)
        after = cpu_seconds(server)
        if after - before < 0.2 * (time.monotonic() - since):
            return after - first
    raise AssertionError("the server works for a minute")


def works(server):
    """Wait until a request has kept it busy for a while."""
    before, deadline = cpu_seconds(server), time.monotonic() + 60
    while cpu_seconds(server) < before + 0.5:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def encode(smooth_picture, model, side, **options):
    selector = codec_pb2.ModelSelector(name=model, **options.pop("selector", {}))
    image = raw_image(smooth_picture(side, side))
    return codec_pb2.EncodeRequest(model=selector, images=[image], **options)


REQUESTS = {
    "a search for a PSNR over quality levels": lambda make: codec_pb2.EvaluateRequest(
        model=codec_pb2.ModelSelector(name="cifar10", target_psnr=25.0),
        image=raw_image(make(1_000, 1_000)),
    ),
    "a search for a PSNR over qualities": lambda make: codec_pb2.EvaluateRequest(
        model=codec_pb2.ModelSelector(name="photo", target_psnr=33.0),
        image=raw_image(make(1_100, 1_100)),
    ),
    "a search for a size": lambda make: encode(make, "cifar10", 1_000, max_bytes=9_000),
    "effort": lambda make: encode(make, "cifar10", 1_100, effort=2),
    "a photograph": lambda make: codec_pb2.EncodeRequest(
        model=codec_pb2.ModelSelector(name="photo"), images=[_large_file()]
    ),
    "features of a large image": lambda make: codec_pb2.ExtractFeaturesRequest(
        model=codec_pb2.ModelSelector(name="photo"),
        sources=[codec_pb2.FeatureSource(image=_large_file())],
    ),
    "many images of a batch": lambda make: codec_pb2.EncodeRequest(
        model=codec_pb2.ModelSelector(name="photo"),
        images=[codec_pb2.Image(file=_file(Image.new("RGB", (1_000, 1_000))))] * 15,
    ),
}


def _file(image):
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


def _large_file():
    return codec_pb2.Image(file=_file(Image.new("RGB", (4_000, 4_000))))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_call_that_is_cancelled_ends_its_work(busy, smooth_picture, name):
    request = REQUESTS[name](smooth_picture)
    method = type(request).__name__.removesuffix("Request")
    cpu_until_quiet(busy)
    with grpc.insecure_channel(busy.address) as channel:
        call = getattr(codec_pb2_grpc.CodecServiceStub(channel), method).future(
            request, timeout=300
        )
        works(busy)
        assert not call.done()
        call.cancel()
        assert cpu_until_quiet(busy) < CPU_SECONDS
    scraped_when(busy, lambda scrape: scrape("hvae_batches_in_flight") == 0)


def test_a_deadline_that_passes_ends_the_work_and_is_logged_as_such(busy, smooth_picture):
    picture = smooth_picture(1_000, 1_000)
    for timeout in (1.5, 2.345):
        with Client(busy.address) as client, pytest.raises(ServiceError) as raised:
            client.evaluate(picture, model="cifar10", target_psnr=25.0, timeout=timeout)
        assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert cpu_until_quiet(busy) < CPU_SECONDS
    scraped_when(
        busy,
        lambda scrape: (
            scrape("hvae_requests_total", method="Evaluate", code="DEADLINE_EXCEEDED") == 2
        ),
    )


def test_who_closes_the_page_ends_the_work(busy):
    content = _large_file().file
    request = urllib.request.Request(busy.page + "evaluate?model=photo", data=content)
    request.add_header("Content-Type", "application/octet-stream")
    cpu_until_quiet(busy)
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=1.5)
    assert cpu_until_quiet(busy) < CPU_SECONDS


def test_a_batch_goes_on_for_those_who_still_wait():
    """Of two callers of a batch one goes: the other has its result. When both go, it ends."""
    steps = []

    async def main():
        gate, under_way = asyncio.Event(), asyncio.Event()

        async def work(batch):
            under_way.set()
            try:
                while not gate.is_set():
                    await asyncio.sleep(0.01)
                    check()
            except CancelledWorkError:
                steps.append("cancelled")
                raise
            return [value + 1 for value in batch.values]

        batcher = Batcher(work, BatchLimits(items=8, delay_seconds=0.0), 1)
        one, two = (asyncio.create_task(batcher.submit("key", [n], [1])) for n in (1, 2))
        await under_way.wait()
        one.cancel()
        await asyncio.sleep(0.1)
        assert not steps
        gate.set()
        assert await two == [3]
        gate.clear()
        under_way.clear()
        both = [asyncio.create_task(batcher.submit("key", [n], [1])) for n in (1, 2)]
        await under_way.wait()
        for each in both:
            each.cancel()
        await asyncio.sleep(0.1)
        assert steps == ["cancelled"]
        gate.set()
        assert await batcher.submit("key", [5], [1]) == [6]
        await batcher.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def _steps(seconds):
    """Look at the clock, and for a cancellation, until the time is over."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        check()
        time.sleep(0.01)
    return "done"


def test_work_in_a_process_is_cancelled_and_the_next_is_not():
    async def main():
        processes = CodingPool(1)
        await processes.start()
        cancelled = Cancellation()
        with cancelled_by(cancelled):
            running = asyncio.create_task(processes.run(_steps, 60))
            waiting = asyncio.create_task(processes.run(_steps, 60))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        cancelled.cancel()
        for task in (running, waiting):
            with pytest.raises(CancelledWorkError):
                await task
        assert time.monotonic() - began < 50  # of sixty
        late = Cancellation()
        with cancelled_by(late):
            assert await processes.run(_steps, 0.1) == "done"
        late.cancel()  # of work that has ended: whatever follows goes on
        for _ in range(20):
            assert await processes.run(_steps, 0.02) == "done"
        assert processes.restarts == 0
        await asyncio.to_thread(processes.stop)

    asyncio.run(asyncio.wait_for(main(), 120))
