"""A deployment as docker compose and Kubernetes know it: dicts, written as YAML."""

import hashlib
from typing import Any

from serving.tools.deployment import (
    CONFIG_FOLDER,
    GRPC_PORT,
    METRICS_PATH,
    REST_PORT,
    Deployment,
)
from serving.tools.server_configs import config_files

Manifest = dict[str, Any]

_SERVER = "tensorflow_model_server"
# TF Serving ends at once on SIGTERM: the pod must have left the load balancers by then.
_LEAVE_SECONDS = 15
_CPU_PERCENT = 70


def compose(deployment: Deployment) -> Manifest:
    """docker-compose.yaml: one server on this machine."""
    volumes = [
        f"./{name}:{CONFIG_FOLDER}/{name}:ro" for name in config_files(deployment)
    ]
    if not deployment.base_path:
        volumes.append(f"{deployment.models_folder}:{deployment.served_path}:ro")
    return {
        "services": {
            deployment.name: {
                "image": deployment.image,
                "entrypoint": [_SERVER],
                "command": deployment.server_flags(),
                "ports": [
                    # Not to be reached from elsewhere unless someone decides so.
                    f"127.0.0.1:{port}:{port}"
                    for port in (GRPC_PORT, REST_PORT)
                ],
                "volumes": volumes,
                "restart": "unless-stopped",
                "healthcheck": {
                    # Compose takes a single $ for a variable of its own.
                    "test": [
                        "CMD",
                        "bash",
                        "-c",
                        _health_script(deployment).replace("$", "$$"),
                    ],
                    "interval": "10s",
                    "timeout": "5s",
                    "retries": 3,
                    "start_period": f"{deployment.load_seconds}s",
                },
                "deploy": {
                    "resources": {
                        "limits": {
                            "cpus": str(deployment.cpu),
                            # Docker writes Gi as g.
                            "memory": deployment.memory[:-1].lower(),
                        }
                    }
                },
            }
        }
    }


def _health_script(deployment: Deployment) -> str:
    """Bash that succeeds if the model is served; the image has no curl."""
    request = f"GET {_ready_path(deployment)} HTTP/1.0\\r\\n\\r\\n"
    return (
        f"exec 3<>/dev/tcp/localhost/{REST_PORT} && printf '{request}' >&3 && "
        "read -r line <&3 && [[ $line == *' 200 '* ]]"
    )


def kubernetes(deployment: Deployment) -> list[Manifest]:
    """The objects of kubernetes.yaml, in the order in which they are applied."""
    labels = {"app.kubernetes.io/name": deployment.name}
    objects = [
        _object(deployment, "v1", "ConfigMap", data=config_files(deployment)),
        _deployment(deployment, labels),
        _service(deployment, labels, deployment.name),
        # gRPC keeps its connection: behind one address all requests of a client go to
        # one replica. This name stands for all of them: dns:///NAME-replicas:8500.
        _service(deployment, labels, f"{deployment.name}-replicas", headless=True),
    ]
    if deployment.replicas > 1:
        disruption = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
        objects.append(
            _object(deployment, "policy/v1", "PodDisruptionBudget", spec=disruption)
        )
    if deployment.max_replicas > deployment.replicas:
        objects.append(_autoscaler(deployment))
    return objects


def _object(
    deployment: Deployment, version: str, kind: str, name: str = "", **fields
) -> Manifest:
    metadata = {
        "name": name or deployment.name,
        "namespace": deployment.namespace,
        "labels": {"app.kubernetes.io/name": deployment.name},
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _deployment(deployment: Deployment, labels: Manifest) -> Manifest:
    files = "".join(config_files(deployment).values()).encode()
    volumes = [{"name": "config", "configMap": {"name": deployment.name}}]
    if not deployment.base_path:
        claim = {"claimName": deployment.claim or deployment.name, "readOnly": True}
        volumes.append({"name": "models", "persistentVolumeClaim": claim})
    annotations = {
        # Another config makes other pods; a changed ConfigMap alone would not.
        "config-sha256": hashlib.sha256(files).hexdigest()[:16],
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST_PORT),
        "prometheus.io/path": METRICS_PATH,
    }
    pod = {
        "terminationGracePeriodSeconds": 2 * _LEAVE_SECONDS,
        "containers": [_container(deployment)],
        "volumes": volumes,
    }
    spec = {
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": pod,
        },
    }
    # With an autoscaler the number is the autoscaler's: applying must not reset it.
    if deployment.max_replicas <= deployment.replicas:
        spec["replicas"] = deployment.replicas
    return _object(deployment, "apps/v1", "Deployment", spec=spec)


def _container(deployment: Deployment) -> Manifest:
    mounts = [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}]
    if not deployment.base_path:
        path = deployment.served_path
        mounts.append({"name": "models", "mountPath": path, "readOnly": True})
    resources = {"cpu": str(deployment.cpu), "memory": deployment.memory}
    # Its metadata are there when a version of the model is; its status always is.
    ready = {"httpGet": {"path": _ready_path(deployment), "port": "rest"}}
    period = 5
    return {
        "name": "server",
        "image": deployment.image,
        "command": [_SERVER],
        "args": deployment.server_flags(),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "rest", "containerPort": REST_PORT},
        ],
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": ready
        | {
            "periodSeconds": period,
            "failureThreshold": -(-deployment.load_seconds // period),
        },
        "readinessProbe": ready | {"periodSeconds": period, "timeoutSeconds": 3},
        # A server that is busy is not dead: only that it listens is asked for.
        "livenessProbe": {
            "tcpSocket": {"port": "grpc"},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVE_SECONDS)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _service(
    deployment: Deployment, labels: Manifest, name: str, *, headless: bool = False
) -> Manifest:
    spec = {
        "selector": labels,
        "ports": [
            {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc"},
            {"name": "rest", "port": REST_PORT, "targetPort": "rest"},
        ],
    }
    if headless:
        spec["clusterIP"] = "None"
    return _object(deployment, "v1", "Service", name, spec=spec)


def _autoscaler(deployment: Deployment) -> Manifest:
    cpu = {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": _CPU_PERCENT},
    }
    spec = {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": deployment.name,
        },
        "minReplicas": deployment.replicas,
        "maxReplicas": deployment.max_replicas,
        "metrics": [{"type": "Resource", "resource": cpu}],
    }
    return _object(deployment, "autoscaling/v2", "HorizontalPodAutoscaler", spec=spec)


def _ready_path(deployment: Deployment) -> str:
    return f"/v1/models/{deployment.served_name}/metadata"
