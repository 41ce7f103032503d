"""JSON of answers, and the choice of their content type."""

import json

import numpy as np
import pytest
from google.protobuf import json_format

from hvae_codec.server.http.forms import to_json
from hvae_codec.server.http.negotiation import accepted
from hvae_codec.v1 import codec_pb2


def test_numbers_of_features_are_exact():
    """Those of binary32, whatever the size; what else a message has is as protobuf writes it."""
    numbers = np.random.default_rng(0).standard_normal(1_000).astype(np.float32)
    numbers[:4] = 0, 1e-38, -3.4e38, 0.1
    response = codec_pb2.ExtractFeaturesResponse()
    response.results.add(mean=numbers, warnings=[codec_pb2.Warning(message='a "word"')])
    response.results.add(status=codec_pb2.Status(code=3, message="no"))
    response.results.add(mean_bytes=b"\0\1", std=[1.0])
    expected = json_format.MessageToDict(response)["results"]
    first, second, third = json.loads(to_json(response))["results"]
    assert np.array_equal(np.array(first.pop("mean"), np.float32), numbers)
    del expected[0]["mean"]
    assert [first, second, third] == expected


@pytest.mark.parametrize(
    "response",
    [
        codec_pb2.SampleResponse(
            results=[codec_pb2.SampleResult()], warnings=[codec_pb2.Warning(message="x")]
        ),
        codec_pb2.EncodeResponse(results=[codec_pb2.EncodeResult(encoded=b"\xf6H")] * 2),
        codec_pb2.ListModelsResponse(),
        codec_pb2.GetModelResponse(limits=codec_pb2.CallLimits(items=2**53)),
    ],
    ids=lambda response: type(response).__name__,
)
def test_other_answers_are_as_protobuf_writes_them(response):
    expected = json_format.MessageToDict(response)
    assert json.loads(to_json(response)) == expected


@pytest.mark.parametrize(
    ("headers", "chosen"),
    [
        ([], "image/png"),
        (["*/*"], "image/png"),
        (["text/html,application/xml;q=0.9,*/*;q=0.8"], "image/png"),
        (["application/json"], "application/json"),
        (["Application/JSON ; Q=0.5, image/png;q=0.4"], "application/json"),
        (["image/*;q=0.1", "application/*"], "application/json"),
        (["*/*, image/png;q=0"], "application/json"),
        (["image/webp"], None),
        (["image/png;q=0"], None),
        (["image/png;q=many"], None),
        ([",;,"], None),
        ([""], "image/png"),
    ],
)
def test_accept(headers, chosen):
    assert accepted(headers, ("image/png", "application/json")) == chosen
