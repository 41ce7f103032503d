"""What requests take of the memory is bounded and given back: of real servers, the real memory."""

import asyncio
import io
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from PIL import Image

from hvae_codec.client import Client, Retry, ServiceError
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.messages import raw_image
from tests.server.scraping import Scrape, scraped_when

MIB = 2**20
CAPACITY = 48 * MIB
SECONDS = 120
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def small(start_server):
    flags = ("--max-queued-bytes", str(CAPACITY), "--coding-processes", "1", "--metrics-port", "0")
    server = start_server(*flags, "--preload", "cifar10")
    yield server
    assert "Traceback" not in server.log, server.log


def memory(server):
    """Bytes of the server's main process."""
    lines = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("Pss:"))
    return 1024 * int(line.split()[1])


class Peak:
    """The most that a server holds and takes while a block runs, beyond what it took before."""

    def __init__(self, server):
        self._server = server
        self._before = memory(server)
        self._over = threading.Event()
        self.held = self.grown = 0

    def __enter__(self):
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self):
        while not self._over.wait(0.1):
            self.held = max(self.held, Scrape(self._server)("hvae_queued_bytes"))
            self.grown = max(self.grown, memory(self._server) - self._before)

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def poster():
    """A PNG of 4 million pixels in some 15 KB."""
    file = io.BytesIO()
    Image.fromarray(np.full((2000, 2000, 3), 7, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_images_that_wait_decoded_are_counted(small, poster):
    """Sixteen callers of an image that takes 12 MB decoded and 16 more while it is read: one fits
    the capacity, and the others are told to come back.
    """
    found, refused = [], []

    def encode():
        with Client(small.address, retry=Retry(attempts=1), timeout=SECONDS) as client:
            try:
                found.append(client.encode([poster], model="cifar10", quality=1))
            except ServiceError as error:
                refused.append(error)

    encode()
    threads = [threading.Thread(target=encode) for _ in range(16)]
    with Peak(small) as peak:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) + len(refused) == 17
    assert len(found) > 1
    assert all(files == found[0] for files in found)
    assert {error.code for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all("bytes to work on" in str(error) for error in refused)
    assert 7 * 4_000_000 < peak.held < CAPACITY
    assert peak.grown < 120 * MIB, "16 * 12 MB decoded are 183 MiB, without what they are read to"
    assert scraped_when(small, lambda scrape: scrape("hvae_queued_bytes") == 0)


def test_streams_wait_for_memory_and_lose_nothing(small, poster):
    """Three streams of two such images: none is refused, and the capacity holds."""
    selector = codec_pb2.ModelSelector(name="cifar10", quality=1)
    request = codec_pb2.EncodeRequest(model=selector, images=[codec_pb2.Image(file=poster)])
    message = codec_pb2.StreamEncodeRequest(request=request)
    answers = []

    def stream():
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(small.address, options) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            answers.append([a.response for a in stub.StreamEncode(iter([message] * 2))])

    threads = [threading.Thread(target=stream) for _ in range(3)]
    with Peak(small) as peak:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 3
    assert all(found == answers[0] for found in answers)
    assert [len(answer.results) for answer in answers[0]] == [1, 1]
    # Where all that are in wait for more, one of them goes on beyond the capacity.
    assert peak.held < CAPACITY + 7 * 4_000_000
    assert scraped_when(small, lambda scrape: scrape("hvae_queued_bytes") == 0)


def test_answers_that_nobody_reads_are_counted_and_leave_room_for_others(small, tiles, model):
    """Twenty streams of answers of 4 MB: one connection gets half of the capacity, others go on,
    and all is free once the streams are gone.
    """
    with Client(small.address) as client:
        (blob,) = client.encode(tiles[:1], **model)
    request = codec_pb2.DecodeRequest(encoded=[blob] * 1300, format=codec_pb2.IMAGE_FORMAT_RAW)
    message = codec_pb2.StreamDecodeRequest(request=request)

    async def unread(peak):
        options = [("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(small.address, options) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            calls = [stub.StreamDecode() for _ in range(20)]

            async def feed(call):
                for _ in range(4):
                    await call.write(message)

            tasks = [asyncio.create_task(feed(call)) for call in calls]
            await asyncio.sleep(8)
            held = await asyncio.to_thread(lambda: Scrape(small)("hvae_queued_bytes"))
            answer = await asyncio.to_thread(other)
            # It goes on where answers are read. Which streams had room is the order of arrival.
            reads = [asyncio.create_task(call.read()) for call in calls]
            done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            first = done.pop().result().response
            for task in (*tasks, *reads):
                task.cancel()
            for call in calls:
                call.cancel()
        return held, answer, first

    def other():
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(small.address, options) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            request = codec_pb2.EncodeRequest(images=map(raw_image, tiles))
            request.model.name, request.model.quality = model["model"], model["quality"]
            return stub.Encode(request, timeout=SECONDS)

    with Peak(small) as peak:
        held, answer, first = asyncio.run(unread(peak))
    assert len(answer.results) == len(tiles)
    assert len(first.results) == 1300
    # 1,300 images of 3,072 bytes as answers, three times each, and what the request had.
    assert 3 * 1300 * 3072 < held <= CAPACITY // 2
    assert peak.grown < 150 * MIB, "twenty times three answers of 4 MB: 229 MiB and their copies"
    assert scraped_when(small, lambda scrape: scrape("hvae_queued_bytes") == 0)


def test_an_unread_answer_of_a_single_call_is_counted(small, tiles, model):
    """Until its caller takes it; what the call asked for is free before that."""
    with Client(small.address) as client:
        (blob,) = client.encode(tiles[:1], **model)
    request = codec_pb2.DecodeRequest(encoded=[blob] * 1300, format=codec_pb2.IMAGE_FORMAT_RAW)
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    # Read as a stream, the answer stays with the server until it is asked for.
    with grpc.insecure_channel(small.address, options) as channel:
        decode = channel.unary_stream(
            "/hvae_codec.v1.CodecService/Decode",
            request_serializer=codec_pb2.DecodeRequest.SerializeToString,
            response_deserializer=codec_pb2.DecodeResponse.FromString,
        )
        call = decode(request, timeout=SECONDS)
        time.sleep(3)
        assert Scrape(small)("hvae_queued_bytes") > 3 * 1300 * 3072
        answer = next(call)
        assert len(answer.results) == 1300
    assert scraped_when(small, lambda scrape: scrape("hvae_queued_bytes") == 0)


def test_an_image_of_more_pixels_than_a_call_may_have_is_refused_unread(small):
    file = io.BytesIO()
    Image.fromarray(np.full((4097, 4096, 3), 7, np.uint8)).save(file, "PNG")
    with Client(small.address) as client:
        assert client.limits().pixels == 4096 * 4096
        with Peak(small) as peak, pytest.raises(ServiceError, match="16,781,312 pixels or more"):
            client.encode([file.getvalue()], model="photo", quality=5)
    assert peak.grown < 80 * MIB, "decoded it takes 48 MiB, and 64 more while it is read"


def test_messages_of_health_and_reflection_take_little_memory(small):
    """Hundreds of messages of 4 MB, each of which the standard services would keep and echo."""

    def long_name(number):
        return f"{number:04}" + "a" * 4_000_000

    def unread(channel, number):
        request = health_pb2.HealthCheckRequest(service=long_name(number))
        yield health_pb2_grpc.HealthStub(channel).Watch(request)
        question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=long_name(number))
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        yield stub.ServerReflectionInfo(iter([question]))

    def code(call):
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        return refused.value.code()

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(small.address, options) for _ in range(4)]
    with Peak(small) as peak:
        calls = []
        for number in range(120):
            calls += unread(channels[number % 3], number)
            if number % 20 == 19:
                stub = health_pb2_grpc.HealthStub(channels[3])
                assert stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status == 1
        codes = {code(call) for call in calls}
    for channel in channels:
        channel.close()
    assert codes <= {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        UNAVAILABLE,
    }
    assert peak.grown < 150 * MIB, "16 messages, and their copies while they are parsed"
