"""buf, the linter of contracts: its rules hold, nothing that was promised is broken, and calls by
reflection work as the README writes them.
"""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import google.api
import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[3]
CALL = "hvae_codec.v1.CodecService"

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def buf(node_folder):
    """Runs buf in a folder with the contract."""
    contract = node_folder / "contract"
    shutil.copytree(ROOT / "proto", contract)
    (contract / "google/api").mkdir(parents=True)
    for name in ("annotations.proto", "http.proto"):  # which the contract imports
        shutil.copy(Path(google.api.__path__[0]) / name, contract / "google/api")

    def run(*arguments):
        command = [node_folder / "node_modules" / ".bin" / "buf", *arguments]
        return subprocess.run(command, cwd=contract, capture_output=True, text=True, timeout=240)

    return run


def test_the_standard_rules_hold(buf):
    rules = {"version": "v2", "lint": {"use": ["STANDARD"], "ignore": ["google"]}}
    done = buf("lint", "--config", json.dumps(rules))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_of_the_first_contract_is_broken(buf, tmp_path):
    """Against the descriptors that its golden requests are kept with."""
    golden = json.loads((ROOT / "tests" / "server" / "rpc" / "requests_v1.json").read_text())
    first = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(golden["contract"]))
    assert [method.name for method in first.file[-1].service[0].method][:2] == ["Encode", "Decode"]
    image = tmp_path / "first.binpb"
    image.write_bytes(first.SerializeToString())
    rules = json.dumps({"version": "v2", "breaking": {"use": ["FILE"]}})
    done = buf("breaking", ".", "--against", image, "--config", rules)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_calls_by_reflection(buf, real):
    def curl(*arguments):
        plain = ("--protocol", "grpc", "--http2-prior-knowledge")
        return buf("curl", *plain, *arguments)

    listed = curl("--list-methods", f"http://{real}").stdout.split()
    assert {f"{CALL}/Encode", f"{CALL}/StreamDecode", "grpc.health.v1.Health/Check"} <= set(listed)
    data = json.dumps({"model": {"name": "cifar10", "quality": 3}})
    found = json.loads(curl("--data", data, f"http://{real}/{CALL}/GetModel").stdout)
    assert found["model"]["latentDims"] == [32, 512]
    done = curl("--data", "{}", f"http://{real}/{CALL}/Encode")
    assert json.loads(done.stderr)["code"] == "invalid_argument"
