"""The methods over HTTP give what the codec gives in this process, and what gRPC gives."""

import base64
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from PIL import Image

import hvae_codec
from hvae_codec.codec.images.load import encode_png
from hvae_codec.server.http.routes import routes_of
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.http.asking import HVAE, JSON, NPY, PNG, ask

SERVICE = codec_pb2.DESCRIPTOR.services_by_name["CodecService"]
RUNG = "model=cifar10&quality=3"
SECONDS = 60


@pytest.fixture(scope="module")
def served(watched):
    return watched


@pytest.fixture(scope="module")
def picture(smooth_picture):
    return smooth_picture(32, 32, seed=5)


@pytest.fixture(scope="module")
def file(picture):
    return encode_png(picture)


@pytest.fixture
def blob(codec, picture):
    return codec.encode(picture)


@pytest.fixture(scope="module")
def grpc_stub(served):
    with grpc.insecure_channel(served.address) as channel:
        yield codec_pb2_grpc.CodecServiceStub(channel)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_method_but_streams_has_a_route():
    unary = [method.name for method in SERVICE.methods if not method.server_streaming]
    assert [route.method for route in routes_of(SERVICE)] == unary


def test_encode(served, file, picture, blob):
    found = ask(served, f"encode?{RUNG}", file, PNG)
    assert (found.status, found.headers["Content-Type"], found.body) == (200, HVAE, blob)
    found = ask(served, f"encode?{RUNG}", file, "application/octet-stream", Accept="*/*;q=0.1")
    assert found.body == blob
    found = ask(served, f"encode?{RUNG}", file, PNG, Accept=f"text/html, {JSON}")
    assert found.json == {"results": [{"encoded": base64.b64encode(blob).decode()}]}
    found = ask(served, "encode?model=cifar10&target_bytes=60", file, PNG)
    assert found.body == hvae_codec.encode(picture, "cifar10", target_bytes=60)


def test_encode_by_json(served, file, picture, blob, codec):
    raw = {"height": 32, "width": 32, "channels": 3, "data": _text(picture[::-1].tobytes())}
    request = {
        "model": {"name": "cifar10", "quality": 3},
        "images": [{"file": _text(file)}, {"raw": raw}],
    }
    found = ask(served, "encode", request)
    files = [base64.b64decode(each["encoded"]) for each in found.json["results"]]
    assert (found.status, files) == (200, [blob, codec.encode(picture[::-1])])


def test_a_body_of_megabytes(served, smooth_picture):
    """As `curl` sends it: first the head, and the body once the server asks for it."""
    large = np.random.default_rng(0).integers(0, 256, (1_000, 1_000, 3)).astype(np.uint8)
    file = encode_png(large)
    found = ask(served, "encode?model=photo&quality=40", file, PNG)
    assert found.body == hvae_codec.encode(large, "photo", quality=40)
    request = {"model": {"name": "photo", "quality": 40}, "images": [{"file": _text(file)}]}
    (result,) = ask(served, "encode", request).json["results"]
    assert base64.b64decode(result["encoded"]) == found.body


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_guide(served, codec, tmp_path, smooth_picture):
    """As written, but for the address."""
    page = (Path(__file__).parents[3] / "docs/guides/service.md").read_text()
    section = page.partition("## Call it over HTTP\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^\$ curl (.*)$", section, re.MULTILINE)
    assert len(commands) == 8
    picture = smooth_picture(96, 128, seed=5)
    (tmp_path / "photo.png").write_bytes(encode_png(picture))
    for command in commands:
        words = shlex.split(command.replace("http://127.0.0.1:8080/v1/", served.http))
        subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", *words],
            cwd=tmp_path,
            check=True,
            timeout=SECONDS,
        )
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    blob = hvae_codec.encode(picture, "photo", quality=40)
    assert made["photo.hvae"] == blob
    assert np.array_equal(pixels(made["decoded.png"]), hvae_codec.decode(blob))
    assert np.load(tmp_path / "features.npy").shape[0] == 2
    assert np.array_equal(pixels(made["drawn.png"]), codec.sample(1, seed=7)[0])
    results = json.loads(made["drawn.json"])["results"]
    drawn = [pixels(base64.b64decode(each["image"]["file"])) for each in results]
    assert np.array_equal(drawn, codec.sample(2, seed=7))
    evaluated = json.loads(made["evaluated.json"])
    assert base64.b64decode(evaluated["encoded"]) == hvae_codec.encode(picture, "photo")
    names = {model["name"] for model in json.loads(made["models.json"])["models"]}
    assert json.loads(made["model.json"])["model"]["name"] in names


def test_decode(served, blob, codec):
    expected = codec.decode(blob)
    found = ask(served, "decode", blob, HVAE)
    assert (found.status, found.headers["Content-Type"]) == (200, PNG)
    assert np.array_equal(pixels(found.body), expected)
    found = ask(served, "decode", blob, HVAE, Accept=NPY)
    assert np.array_equal(np.load(io.BytesIO(found.body)), expected)
    found = ask(served, "decode?preview=true&format=raw", blob, HVAE, Accept=JSON)
    raw = found.json["results"][0]["image"]["raw"]
    preview = np.frombuffer(base64.b64decode(raw["data"]), np.uint8).reshape(32, 32, 3)
    assert np.array_equal(preview, codec.preview(blob))


def test_features(served, file, blob, codec):
    expected = codec.features_from_bytes([blob])
    found = ask(served, "features", blob, HVAE, Accept=NPY)
    values = np.load(io.BytesIO(found.body))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, np.stack([expected.mean[0], expected.std[0]]), rtol=1e-6)
    (result,) = ask(served, "features?moments=mean", blob, HVAE).json["results"]
    assert np.array_equal(np.array(result["mean"], np.float32), values[0])
    assert "std" not in result
    found = ask(served, f"features?{RUNG}", file, PNG, Accept=NPY)
    of_picture = codec.features([pixels(file)])
    np.testing.assert_allclose(np.load(io.BytesIO(found.body))[0], of_picture.mean[0], atol=1e-5)


def test_sample(served, grpc_stub):
    request = codec_pb2.SampleRequest(model={"name": "cifar10"}, count=3, seed=7)
    expected = [pixels(r.image.file) for r in grpc_stub.Sample(request, timeout=SECONDS).results]
    found = ask(served, "sample?model=cifar10&count=3&seed=7", verb="POST", Accept=NPY)
    assert np.array_equal(np.load(io.BytesIO(found.body)), expected)
    found = ask(served, "sample", {"model": {"name": "cifar10"}, "count": 1, "seed": "7"})
    assert len(found.json["results"]) == 1
    found = ask(served, "sample?model=cifar10&count=1&seed=7", b"")
    assert (found.headers["Content-Type"], pixels(found.body).shape) == (PNG, (32, 32, 3))


def test_evaluate(served, file, grpc_stub):
    found = ask(served, f"evaluate?{RUNG}", file, PNG).json
    request = codec_pb2.EvaluateRequest(
        model={"name": "cifar10", "quality": 3}, image=codec_pb2.Image(file=file)
    )
    assert found == json_format.MessageToDict(grpc_stub.Evaluate(request, timeout=SECONDS))


def test_models(served, grpc_stub):
    listed = grpc_stub.ListModels(codec_pb2.ListModelsRequest(), timeout=SECONDS)
    assert ask(served, "models").json == json_format.MessageToDict(listed)
    found = ask(served, "models/cifar10?quality=3", Content_Type=JSON).json["model"]
    assert (found["name"], found["quality"], found["latentDims"]) == ("cifar10", 3, [32, 512])


def _text(data):
    return base64.b64encode(data).decode()
