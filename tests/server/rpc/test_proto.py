"""The contract keeps the usual lint rules, and says of everything in it what it is."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import google.api
import pytest
from google.protobuf import descriptor_pb2

from hvae_codec.v1 import codec_pb2

ROOT = Path(__file__).parents[3]
FILE = "hvae_codec/v1/codec.proto"
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]+)+")


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    """The parsed file with its comments."""
    target = tmp_path_factory.mktemp("proto") / "set"
    shared = Path(google.api.__path__[0]).parents[1]
    flags = ["-Iproto", f"-I{shared}", "--include_source_info", f"--descriptor_set_out={target}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *flags, FILE], cwd=ROOT, check=True)
    return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file[0]


def test_generated_code_is_of_this_contract(contract):
    built = descriptor_pb2.FileDescriptorProto()
    codec_pb2.DESCRIPTOR.CopyToProto(built)
    stripped = descriptor_pb2.FileDescriptorProto.FromString(contract.SerializeToString())
    stripped.ClearField("source_code_info")
    for message in [*built.message_type, *stripped.message_type]:
        for field in message.field:
            field.ClearField("json_name")
    assert built == stripped


def test_names(contract):
    assert contract.package == "hvae_codec.v1"
    for service in contract.service:
        assert PASCAL.fullmatch(service.name)
        assert service.name.endswith("Service")
    for message in contract.message_type:
        assert PASCAL.fullmatch(message.name)
        for named in [*message.field, *message.oneof_decl]:
            # protoc makes a oneof of its own, with a leading underscore, for `optional`
            assert SNAKE.fullmatch(named.name.removeprefix("_")), named.name
    for enum in contract.enum_type:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        assert [value.name for value in enum.value if value.number == 0] == [
            f"{prefix}_UNSPECIFIED"
        ]
        assert all(value.name.startswith(f"{prefix}_") for value in enum.value)


def test_every_method_has_messages_of_its_own(contract):
    used = Counter()
    for method in contract.service[0].method:
        assert method.input_type == f".hvae_codec.v1.{method.name}Request"
        assert method.output_type == f".hvae_codec.v1.{method.name}Response"
        used.update([method.input_type, method.output_type])
    assert set(used.values()) == {1}


def test_everything_has_a_comment(contract):
    """Paths as descriptor.proto numbers them: 4 message (2 field, 8 oneof), 5 enum, 6 service."""
    commented = {
        tuple(location.path)
        for location in contract.source_code_info.location
        if location.leading_comments.strip()
    }
    expected = set()
    for m, message in enumerate(contract.message_type):
        expected.add((4, m))
        expected.update((4, m, 2, f) for f, _ in enumerate(message.field))
        written = (o for o, each in enumerate(message.oneof_decl) if each.name[0] != "_")
        expected.update((4, m, 8, o) for o in written)
    for e, enum in enumerate(contract.enum_type):
        expected.update([(5, e), *((5, e, 2, v) for v, _ in enumerate(enum.value))])
    for s, service in enumerate(contract.service):
        expected.update([(6, s), *((6, s, 2, m) for m, _ in enumerate(service.method))])
    assert expected - commented == set()
    assert len(expected) > 60


def test_results_and_answers_of_streams_have_a_status_of_their_own(contract):
    results = [m for m in contract.message_type if m.name.endswith("Result")]
    answers = [
        m for m in contract.message_type if m.name.startswith("Stream") and "Response" in m.name
    ]
    assert len(results) == len(answers) == 4
    for message in results + answers:
        (status,) = (field for field in message.field if field.number == 15)
        assert (status.name, status.type_name) == ("status", ".hvae_codec.v1.Status")
