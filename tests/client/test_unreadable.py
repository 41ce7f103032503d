"""Answers and details that contradict the contract: a ServiceError says so, whatever they hold."""

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2

import hvae_codec
from hvae_codec.client import Retry, ServiceError
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

ANSWERS = {
    "encode": (
        (codec_pb2.EncodeResponse, {"results": [{}]}, "no file of an image"),
        (codec_pb2.EncodeResponse, {"results": []}, "1 items with 0 results"),
    ),
    "decode": (
        (codec_pb2.DecodeResponse, {"results": [{}]}, "height 0, width 0 and 0 channels"),
        (
            codec_pb2.DecodeResponse,
            {"results": [{"image": {"raw": {"height": 4, "width": 4, "channels": 3}}}]},
            "height 4, width 4 and 3 channels has 0 bytes",
        ),
        (
            codec_pb2.DecodeResponse,
            {"results": [{"image": {"file": b"none"}}]},
            "cannot be read: not a PNG",
        ),
    ),
    "features": (
        (codec_pb2.ExtractFeaturesResponse, {"results": [{}]}, "0 means and 0 deviations"),
        (
            codec_pb2.ExtractFeaturesResponse,
            {"results": [{"mean_bytes": b"abc"}]},
            "float32 features have 3 bytes",
        ),
        (
            codec_pb2.ExtractFeaturesResponse,
            {"results": [{"mean": [1.0, 2.0], "std": [1.0]}]},
            "2 means and 1 deviations",
        ),
    ),
    "sample": ((codec_pb2.SampleResponse, {"results": []}, "1 items with 0 results"),),
    "evaluate": ((codec_pb2.EvaluateResponse, {}, "no file of an image"),),
}
CASES = [(method, *case) for method, cases in ANSWERS.items() for case in cases]


@pytest.fixture
def answering(serve):
    """Makes servers of which each gives the same answer to all calls."""

    def start(answer):
        class Server(codec_pb2_grpc.CodecServiceServicer):
            def Encode(self, request, context):  # noqa: N802
                return answer

            Decode = ExtractFeatures = Sample = Evaluate = Encode

        servicer = Server()
        serve(servicer)
        return servicer.address

    return start


@pytest.mark.parametrize(("method", "kind", "fields", "words"), CASES)
def test_an_answer_that_cannot_be_read(ask, answering, pictures, method, kind, fields, words):
    given = {"encode": [pictures[:1]], "features": [pictures[:1]], "evaluate": [pictures[0]]}
    given |= {"decode": [[hvae_codec.load("cifar10", 1).encode(pictures[0])]], "sample": [1]}
    options = {} if method == "decode" else {"model": "cifar10"}
    with pytest.raises(ServiceError, match=words) as raised:
        ask(answering(kind(**fields)), method, *given[method], **options)
    assert raised.value.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "details",
    [
        b"\xff\xff",
        b"\x0a\xff",
        status_pb2.Status(
            code=8,
            details=[any_pb2.Any(type_url="t/google.rpc.RetryInfo", value=b"\xff\xff")],
        ).SerializeToString(),
    ],
)
@pytest.mark.parametrize("method", ["encode", "encode_stream"])
def test_details_that_are_damaged(ask, serve, pictures, details, method):
    class Server(codec_pb2_grpc.CodecServiceServicer):
        def ListModels(self, request, context):  # noqa: N802
            context.set_trailing_metadata([("grpc-status-details-bin", details)])
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "for other reasons")

        Encode = StreamEncode = ListModels

    servicer = Server()
    serve(servicer)
    settings = {"retry": Retry(attempts=1)}
    with pytest.raises(ServiceError, match="RESOURCE_EXHAUSTED: for other reasons") as raised:
        ask(servicer.address, method, pictures[:1], settings=settings, model="m")
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
