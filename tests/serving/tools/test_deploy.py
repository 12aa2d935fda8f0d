"""The production files: parsed by the real protos and schemas, and tried out."""

import dataclasses
import re
import shlex
import socket
import subprocess
import time

import jsonschema
import kubernetes_validate
import numpy as np
import pytest
import yaml
from google.protobuf import text_format

from serving import deploy
from serving.client import Client
from serving.command import UserError
from serving.fronts import text_configs
from serving.fronts.flags import parse_flags
from serving.model_server import Server
from serving.models.batching_settings import from_parameters
from serving.tools import deployment_files, manifests, server_configs
from serving.tools.deployment import Deployment

# What of the compose specification these files use.
_STRINGS = {"type": "array", "items": {"type": "string"}}
_COMPOSE = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "properties": {
        "services": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string"},
                    "entrypoint": _STRINGS,
                    "command": _STRINGS,
                    "ports": _STRINGS | {"uniqueItems": True},
                    "volumes": _STRINGS | {"uniqueItems": True},
                    "restart": {"enum": ["no", "always", "unless-stopped"]},
                    "healthcheck": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "test": _STRINGS,
                            "interval": {"pattern": r"^\d+s$"},
                            "timeout": {"pattern": r"^\d+s$"},
                            "start_period": {"pattern": r"^\d+s$"},
                            "retries": {"type": "integer"},
                        },
                    },
                    "deploy": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "resources": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "limits": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {
                                            "cpus": {"pattern": r"^\d+(\.\d+)?$"},
                                            "memory": {"pattern": "^[0-9]+[mg]$"},
                                        },
                                    }
                                },
                            }
                        },
                    },
                },
            },
        }
    },
}
# Those of tensorflow_model_server; ours has more.
_OWN_FLAGS = {
    "host",
    "max_message_bytes",
    "max_tensor_bytes",
    "max_concurrent_requests",
    "drain_seconds",
}
VARIANTS = {
    "plain": {},
    "bucket": {"base_path": "gs://bucket/ranker", "model_name": "Heavy_Ranker.v2"},
    "one replica": {"replicas": 1, "claim": "disk", "memory": "512Mi", "cpu": 1},
    "scaled": {"replicas": 2, "max_replicas": 9, "versions": 2},
    "with batching": {"batching": True, "max_batch_size": 1536},
    "with large requests": {"batching": True, "max_batch_size": 5000},
}


@pytest.fixture(params=VARIANTS)
def deployment(request):
    return Deployment(name="ranker", **VARIANTS[request.param])


def _parsed(deployment) -> tuple:
    files = deployment_files.files(deployment)
    return (
        yaml.safe_load(files["docker-compose.yaml"]),
        {
            f"{entry['kind']} {entry['metadata']['name']}": entry
            for entry in yaml.safe_load_all(files["kubernetes.yaml"])
        },
    )


def test_the_config_files_are_what_the_server_reads(deployment):
    files = deployment_files.files(deployment)
    config = text_format.Parse(files["models.config"], text_configs.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == deployment.served_name
    assert model.base_path == deployment.served_path
    assert model.model_version_policy.latest.num_versions == deployment.versions
    monitoring = text_format.Parse(
        files["monitoring.config"], text_configs.MonitoringConfig()
    )
    assert monitoring.prometheus_config.enable
    assert ("batching.config" in files) == deployment.batching
    if deployment.batching:
        parameters = text_format.Parse(
            files["batching.config"], text_configs.BatchingParameters()
        )
        assert from_parameters(parameters) == deployment.batch_settings()


def test_every_flag_is_one_of_the_servers(deployment):
    for argument in deployment.server_flags():
        assert argument.split("=")[0].removeprefix("--") not in _OWN_FLAGS
    flags = parse_flags(deployment.server_flags())
    assert flags.enable_batching == deployment.batching
    assert flags.tensorflow_intra_op_parallelism == deployment.cpu


def test_the_compose_file(deployment):
    compose, _ = _parsed(deployment)
    jsonschema.validate(compose, _COMPOSE)
    (service,) = compose["services"].values()
    assert service["image"] == deployment.image
    targets = {volume.split(":")[1] for volume in service["volumes"]}
    named = re.findall(r"=(/config/\S+)", " ".join(service["command"]))
    assert len(named) == 2 + deployment.batching
    assert set(named) <= targets
    assert (deployment.served_path in targets) == (not deployment.base_path)
    assert service["deploy"]["resources"]["limits"]["memory"] in ("4g", "512m")


def test_the_kubernetes_objects(deployment):
    _, objects = _parsed(deployment)
    for manifest in objects.values():
        kubernetes_validate.validate(manifest, "1.32", strict=True)
    pods = objects["Deployment ranker"]["spec"]["template"]
    selector = objects["Deployment ranker"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= pods["metadata"]["labels"].items()
    (container,) = pods["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pods["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claim = volumes.get("models", {}).get("persistentVolumeClaim", {})
    expected = None if deployment.base_path else deployment.claim or "ranker"
    assert claim.get("claimName") == expected
    data = objects["ConfigMap ranker"]["data"]
    assert data == server_configs.config_files(deployment)
    assert ("PodDisruptionBudget ranker" in objects) == (deployment.replicas > 1)
    # Either the Deployment or the autoscaler says how many there are.
    scaled = "HorizontalPodAutoscaler ranker" in objects
    assert scaled == (deployment.max_replicas > deployment.replicas)
    assert ("replicas" in objects["Deployment ranker"]["spec"]) != scaled
    ports = {port["name"] for port in container["ports"]}
    for name in ("ranker", "ranker-replicas"):
        spec = objects[f"Service {name}"]["spec"]
        assert spec["selector"] == selector
        assert {port["targetPort"] for port in spec["ports"]} <= ports
    assert objects["Service ranker-replicas"]["spec"]["clusterIP"] == "None"
    grace = pods["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(container["lifecycle"]["preStop"]["exec"]["command"][1])


def test_a_schema_finds_what_is_wrong():
    _, objects = _parsed(Deployment(name="ranker"))
    broken = objects["Deployment ranker"]
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.32", strict=True)


def test_another_config_makes_other_pods():
    def mark(**settings):
        _, objects = _parsed(Deployment(name="ranker", **settings))
        pods = objects["Deployment ranker"]["spec"]["template"]
        return pods["metadata"]["annotations"]["config-sha256"]

    assert mark() == mark(replicas=7)
    assert mark() != mark(batching=True) != mark(batching=True, max_enqueued_batches=1)


def test_the_command_writes_them_and_says_how(tmp_path, capsys):
    out = tmp_path / "new" / "deploy"
    flags = ["--name=ranker", "--batching", "--memory=8Gi", "--models-folder=/a b"]
    assert deploy.main([*flags, f"--out={out}"]) == 0
    assert f"Wrote {out}/kubernetes.yaml" in capsys.readouterr().out
    settings = Deployment(
        name="ranker", batching=True, memory="8Gi", models_folder="/a b"
    )
    for name, text in deployment_files.files(settings).items():
        assert (out / name).read_text() == text
    assert (out / "batching.config").exists()
    # The command at the head of each file makes it again.
    head = (out / "models.config").read_text().splitlines()[1]
    words = shlex.split(head.removeprefix("#"))
    assert words[:3] == ["python", "-m", "serving.deploy"]
    again = tmp_path / "again"
    assert deploy.main([*words[3:-1], str(again)]) == 0
    for path in out.iterdir():
        assert (again / path.name).read_text() == path.read_text()


@pytest.fixture(scope="module")
def deployed(served_model, tmp_path_factory):
    """Our server, started by the files as written, but for folders and ports."""
    folder = tmp_path_factory.mktemp("deployed")
    deployment = Deployment(name="small", batching=True)
    for name, text in deployment_files.files(deployment).items():
        (folder / name).write_text(text.replace("/models/small", str(served_model)))
    arguments = [
        argument.replace("/config/", f"{folder}/")
        for argument in deployment.server_flags()
    ]
    ports = []
    for _ in range(2):
        with socket.socket() as bound:
            bound.bind(("localhost", 0))
            ports.append(bound.getsockname()[1])
    flags = dataclasses.replace(
        parse_flags(arguments), port=ports[0], rest_api_port=ports[1]
    )
    server = Server(flags)
    server.start()
    yield server, deployment, ports
    server.stop()


def test_the_files_start_a_server(deployed):
    _, _, (port, _) = deployed
    with Client(f"localhost:{port}") as client:
        assert client.states("small") == {2: "AVAILABLE"}
        x = np.ones([3, 3], np.float32)
        assert client.predict("small", {"x": x}).outputs["score"].tolist() == [6] * 3


def test_the_health_check_tells_a_model_that_is_served(deployed):
    _, deployment, (_, port) = deployed

    def check(name: str) -> int:
        composed = manifests.compose(dataclasses.replace(deployment, model_name=name))
        kind, *command = composed["services"]["small"]["healthcheck"]["test"]
        assert kind == "CMD"
        # What compose does, and the port that is not its own here.
        command = [word.replace("$$", "$") for word in command]
        command[-1] = command[-1].replace("/8501", f"/{port}")
        return subprocess.run(command, timeout=20).returncode

    deadline = time.monotonic() + 20
    while check("small") != 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert check("small") == 0
    assert check("other") != 0


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"name": "Ranker"}, r"--name must be a DNS label.*Received: 'Ranker'"),
        ({"name": ""}, r"--name must be a DNS label.*Received: ''"),
        ({"claim": "A"}, r"--claim must be a DNS label.*Received: 'A'"),
        ({"model_name": "a b"}, r"--model-name must consist of .*Received: 'a b'"),
        ({"memory": "4"}, r"--memory must be a number of Mi or Gi\. Received: '4'"),
        ({"base_path": "/x"}, r"--base-path must be a gs://.*Received: '/x'"),
        ({"models_folder": "x"}, r"--models-folder must begin with .*Received: 'x'"),
        ({"replicas": 0}, r"--replicas must be at least 1\. Received: 0"),
        ({"load_seconds": 0}, r"--load-seconds must be at least 1\. Received: 0"),
        ({"max_batch_size": 9}, r"--max-batch-size is set without --batching\. .*: 9"),
        (
            {"batching": True, "allowed_batch_sizes": "a"},
            r"--allowed-batch-sizes must be numbers .*'a'",
        ),
        (
            {"batching": True, "max_batch_size": 9},
            r"do not fit: Last entry in allowed_batch_sizes must",
        ),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(UserError, match=text):
        Deployment(**{"name": "ranker"} | settings)


def test_all_signatures_answer_unless_batching_is_asked_for():
    # TF Serving with batching refuses inputs that differ in rows, as `rank` has, and
    # does not load a version with recorded requests of such a signature.
    deployment = Deployment(name="ranker")
    assert not any("batching" in flag for flag in deployment.server_flags())
    assert "batching.config" not in server_configs.config_files(deployment)


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out must be a folder\. .*, a file"):
        deploy.main(["--name=ranker", f"--out={tmp_path / 'file'}"])
