"""What deploy/ says, against schemas and against the server's own flags. Nothing is downloaded."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from hvae_codec.server.cli import add_arguments
from hvae_codec.server.memory_bound import memory_bound
from hvae_codec.server.settings import Settings
from hvae_codec.utils.options import build
from tests.server.conftest import BEHIND_PROXY, ServerProcess

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = DEPLOY.parent
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES = ("1.30", "1.37")
"""Oldest and newest version whose schema the manifests keep; preStop's sleep came with 1.30."""


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def of_kind(kind):
    (found,) = [d for path in MANIFESTS for d in documents(path) if d["kind"] == kind]
    return found


def server_flags(words, models):
    """Flags as the server's parser takes them; the directory of models is one that is here."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    here = [f"--models={models}" if w.startswith("--models=") else w for w in words]
    return parser.parse_args(here)


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml_is_clean(path):
    config = YamlLintConfig(file=str(DEPLOY / ".yamllint.yaml"))
    assert list(linter.run(path.read_text(), config)) == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_keep_their_schemas(version):
    listed = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == [path.name for path in MANIFESTS]
    for name in listed:
        for document in documents(DEPLOY / "kubernetes" / name):
            kubernetes_validate.validate(document, version, strict=True)


def test_names_ports_and_labels_agree():
    deployment, service = of_kind("Deployment"), of_kind("Service")
    pod = deployment["spec"]["template"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels.items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    (container,) = pod["spec"]["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": of_kind("ConfigMap")["metadata"]["name"]}}
    ]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    flags = server_flags(container["args"], DEPLOY)
    assert ports == {"grpc": flags.port, "metrics": flags.metrics_port}
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(flags.metrics_port)
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == volumes
    assert flags.tls_certificate.parent == flags.tls_key.parent == Path(mounts["tls"])
    assert flags.token_file.parent == Path(mounts["tokens"])
    assert Path(of_kind("ConfigMap")["data"]["HEALTH_CA"]).parent == Path(mounts["tls"])


def test_pods_are_confined_and_drain():
    spec = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    flags = server_flags(container["args"], DEPLOY)
    assert not flags.insecure
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= waits + flags.shutdown_grace_seconds + 5
    threads = of_kind("ConfigMap")["data"]["OMP_NUM_THREADS"]
    cpus = container["resources"]["limits"]["cpu"]
    assert threads == cpus == str(flags.coding_processes)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"][:2] == ["python", "/opt/hvae/healthcheck.py"]


def test_compose_agrees_with_the_server_and_prometheus():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    server = compose["services"]["server"]
    flags = server_flags(server["command"], DEPLOY)
    assert server["ports"] == [
        f"{flags.port}:{flags.port}",
        f"127.0.0.1:{flags.metrics_port}:{flags.metrics_port}",
    ]
    assert int(server["stop_grace_period"].removesuffix("s")) > flags.shutdown_grace_seconds
    assert server["environment"]["OMP_NUM_THREADS"] == str(server["cpus"])
    assert server["read_only"] is True
    places = [volume.split(":")[1] for volume in server["volumes"]]
    for path in (flags.tls_certificate, flags.tls_key, flags.token_file):
        assert str(path.parent) in places
    assert "--models=/var/lib/hvae/models" in server["command"]
    assert "/var/lib/hvae/models" in places
    build = DEPLOY / server["build"]["context"]
    assert (build / server["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())[
        "scrape_configs"
    ]
    assert scrape["static_configs"] == [{"targets": [f"server:{flags.metrics_port}"]}]
    assert scrape["tls_config"]["server_name"] == server["environment"]["HEALTH_NAME"]
    mounted = [volume.split(":")[1] for volume in compose["services"]["prometheus"]["volumes"]]
    assert scrape["tls_config"]["ca_file"] in mounted


def instructions():
    """The Dockerfile's instructions: words, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_the_image_is_of_two_stages_and_not_of_root():
    found = instructions()
    names = [words[0] for words in found]
    assert names.count("FROM") == 2
    last = names[len(names) - names[::-1].index("FROM") :]
    (user,) = [words[1] for words in found if words[0] == "USER"]
    assert user == "10001:10001"
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert "HEALTHCHECK" in last
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for words in found:
        if words[0] == "COPY" and not words[1].startswith("--from"):
            for source in words[1:-1]:
                assert (ROOT / source).exists()
                assert any(f"!{part}" in kept for part in (source, source.split("/")[0]))
    (entry,) = [" ".join(words[1:]) for words in found if words[0] == "ENTRYPOINT"]
    assert entry == '["tini", "--", "hvae-codec", "serve"]'
    assert any(words[:1] == ["RUN"] and "tini" in words for words in found)


def test_a_probe_without_tls_asks_no_proxy(server):
    command = [sys.executable, DEPLOY / "healthcheck.py", "--address", server.address]
    environment = os.environ | BEHIND_PROXY
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (0, f"{server.address}: SERVING\n")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ca", "/nowhere/ca.crt"), "No such file or directory: '/nowhere/ca.crt'"),
        (("--timeout", "soon"), "could not convert string to float: 'soon'"),
    ],
)
def test_a_probe_that_cannot_ask_says_why_in_a_line(flags, said):
    command = [sys.executable, DEPLOY / "healthcheck.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """A folder with what the first commands of deploy/README.md make."""
    folder = tmp_path_factory.mktemp("deploy")
    commands = (DEPLOY / "README.md").read_text().split("```bash\n")[1].split("```")[0]
    subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, timeout=240)
    return folder


def test_a_server_with_the_flags_of_the_pod_is_healthy(secrets, tmp_path):
    """Its ports aside, which may be taken here."""
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    words = [word.replace("/etc/hvae", str(secrets)) for word in container["args"]]
    words = [word for word in words if not word.startswith(("--port=", "--metrics-port="))]
    settings = of_kind("ConfigMap")["data"] | {"HEALTH_CA": str(secrets / "tls/ca.crt")}
    settings |= BEHIND_PROXY

    def check(*flags, **changed):
        command = [sys.executable, DEPLOY / "healthcheck.py", *flags]
        environment = os.environ | settings | changed
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout.strip()

    server = ServerProcess(tmp_path, *words, "--metrics-port=0")
    port = server.address.rpartition(":")[2]
    here = ("--address", f"127.0.0.1:{port}")
    try:
        assert check(*here) == (0, f"{here[1]}: SERVING")
        assert check(*here, "--alive")[0] == 0
        code, said = check(*here, HEALTH_NAME="somebody-else")
        assert (code, "UNAVAILABLE" in said) == (1, True)
        assert check("--address", "127.0.0.1:9")[0] == 1
    finally:
        assert server.terminate() == 0


def test_the_memory_limits_hold_whatever_callers_send(tmp_path):
    """The sum that docs/CAPACITY.md tells, worked out by hand for these flags."""
    (server,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]
    assert server["resources"]["limits"]["memory"] == "3Gi"
    assert compose["mem_limit"] == "3g"
    for words in (server["args"], compose["command"]):
        flags = server_flags(words, tmp_path)
        bound = memory_bound(build(Settings, vars(flags)))
        assert [size // 2**20 for size in bound] == [1073, 256, 256, 128, 256, 80, 800, 160, 0, 60]
        assert bound.total == 3069.5 * 2**20 < 3 * 2**30
        with_http = memory_bound(build(Settings, {**vars(flags), "http_port": 0}))
        assert with_http.http == (240 + 1200 + 29 * 4) * 2**20
    assert "| together | 3,070 |" in (ROOT / "docs/CAPACITY.md").read_text()
