"""How an export is served in production: its settings, and the server's flags.

Imports no TensorFlow: the flags of `serving.deploy` are these settings.
"""

import dataclasses
import re
import shlex
import typing

from serving.command import UserError
from serving.errors import ServingError
from serving.models.batching_settings import Batching

GRPC_PORT, REST_PORT = 8500, 8501
CONFIG_FOLDER = "/config"
METRICS_PATH = "/monitoring/prometheus/metrics"
_OF_BATCHING = (
    "max_batch_size",
    "allowed_batch_sizes",
    "batch_timeout_micros",
    "max_enqueued_batches",
)


def _setting(default, text: str):
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    """A served model; every file that `serving.deploy` writes follows from it."""

    name: str = _setting("", "of the service, a DNS label")
    model_name: str = _setting("", "in requests; as --name if not given")
    base_path: str = _setting(
        "", "gs://... or s3://... with the versions; else they are mounted"
    )
    models_folder: str = _setting(
        "./model", "compose: folder with the versions; ./... is relative to --out"
    )
    claim: str = _setting(
        "",
        "Kubernetes: PersistentVolumeClaim, versions at its root; else --name",
    )
    image: str = _setting("tensorflow/serving:2.20.0", "of TF Serving")
    namespace: str = _setting("default", "of Kubernetes")
    replicas: int = _setting(2, "of Kubernetes")
    max_replicas: int = _setting(0, "more than --replicas: scaled by CPU up to these")
    cpu: int = _setting(2, "cores of a replica, and threads of TensorFlow")
    memory: str = _setting("4Gi", "of a replica, e.g. 4Gi; two versions must fit")
    load_seconds: int = _setting(300, "that a replica may take to load the model")
    versions: int = _setting(1, "newest ones that are served")
    poll_seconds: int = _setting(10, "how often new versions are looked for")
    # With batching the image refuses `rank` of an export, and does not load a version
    # that has recorded requests of it. Without, it answers all; only many small
    # requests at once are slower.
    batching: bool = _setting(
        False,
        "put requests together; the image then refuses signatures whose inputs "
        "differ in rows, as `rank` of an export does",
    )
    max_batch_size: int = _setting(
        12288, "examples of the largest request; larger ones are refused"
    )
    allowed_batch_sizes: str = _setting(
        "1,8,32,128,512,1536",
        "batches are padded to these; the last is the most examples in one run of the "
        "model, and larger requests are split; none: no padding, nothing is split",
    )
    batch_timeout_micros: int = _setting(500, "that a request waits for others")
    max_enqueued_batches: int = _setting(32, "that may wait; more are refused")

    def __post_init__(self):
        for name in ("name", "namespace", "claim"):
            value = getattr(self, name)
            # Names of objects, labels and hosts in Kubernetes.
            if not (name == "claim" and not value) and not re.fullmatch(
                r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?", value
            ):
                raise UserError(
                    f"--{name} must be a DNS label: a-z, 0-9, -, at most 42 of them. "
                    f"Received: {value!r}"
                )
        if not re.fullmatch(r"[A-Za-z0-9_.-]*", self.model_name):
            raise UserError(
                "--model-name must consist of letters, digits, '_', '.' and '-'. "
                f"Received: {self.model_name!r}"
            )
        if not self.models_folder.startswith(("/", "./")):
            # Compose takes anything else for the name of a volume.
            raise UserError(
                "--models-folder must begin with / or with ./, which is --out. "
                f"Received: {self.models_folder!r}"
            )
        if not re.fullmatch(r"[1-9]\d*(Mi|Gi)", self.memory):
            raise UserError(
                f"--memory must be a number of Mi or Gi. Received: {self.memory!r}"
            )
        if self.base_path and not re.fullmatch(r"(gs|s3|hdfs)://.+", self.base_path):
            raise UserError(
                "--base-path must be a gs://, s3:// or hdfs:// URL. Received: "
                f"{self.base_path!r}"
            )
        for name in ("replicas", "cpu", "load_seconds", "versions", "poll_seconds"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UserError(
                    f"--{flag} must be at least 1. Received: {getattr(self, name)}"
                )
        self._check_batching()

    @property
    def served_name(self) -> str:
        """The model's name in requests."""
        return self.model_name or self.name

    @property
    def served_path(self) -> str:
        """The folder of the versions, as the server sees it."""
        return self.base_path or f"/models/{self.served_name}"

    def batch_settings(self) -> Batching:
        """What the batching file says. Raises UserError if it does not go together."""
        try:
            sizes = tuple(int(s) for s in self.allowed_batch_sizes.split(",") if s)
        except ValueError:
            raise UserError(
                "--allowed-batch-sizes must be numbers with commas between. Received: "
                f"{self.allowed_batch_sizes!r}"
            ) from None
        largest_run = sizes[-1] if sizes else 0
        if sizes and sizes[-1] < self.max_batch_size:
            # TF Serving wants it there; no batch becomes as large.
            sizes += (self.max_batch_size,)
        try:
            return Batching(
                max_batch_size=self.max_batch_size,
                batch_timeout_micros=self.batch_timeout_micros,
                max_enqueued_batches=self.max_enqueued_batches,
                # Each run of the model uses all cores; a second one fills its gaps.
                num_batch_threads=2,
                allowed_batch_sizes=sizes,
                enable_large_batch_splitting=True,
                max_execution_batch_size=largest_run,
            )
        except ServingError as error:
            raise UserError(f"The batching settings do not fit: {error}") from error

    def _check_batching(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_set = field.name in _OF_BATCHING and value != field.default
            if is_set and not self.batching:
                raise UserError(
                    f"--{field.name.replace('_', '-')} is set without --batching. "
                    f"Received: {value!r}"
                )
        self.batch_settings()

    def server_flags(self) -> list[str]:
        """The server's command line, after its name."""
        flags = {
            "port": GRPC_PORT,
            "rest_api_port": REST_PORT,
            "model_config_file": f"{CONFIG_FOLDER}/models.config",
            "monitoring_config_file": f"{CONFIG_FOLDER}/monitoring.config",
            "file_system_poll_wait_seconds": self.poll_seconds,
            # The server sees all of the machine's cores.
            "tensorflow_intra_op_parallelism": self.cpu,
            "tensorflow_inter_op_parallelism": self.cpu,
            # Clients look for new replicas when they connect again.
            "grpc_channel_arguments": "grpc.max_connection_age_ms=60000",
        }
        if self.batching:
            flags |= {
                "enable_batching": "true",
                "batching_parameters_file": f"{CONFIG_FOLDER}/batching.config",
            }
        return [f"--{name}={value}" for name, value in flags.items()]

    def command(self) -> str:
        """The command that makes these files again."""
        given = []
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), field.name.replace("_", "-")
            if isinstance(value, bool):
                flag = flag if value else f"no-{flag}"
                given += [f"--{flag}"] if value != field.default else []
            elif value != field.default:
                given.append(f"--{flag}={shlex.quote(str(value))}")
        return " ".join(["python -m serving.deploy", *given])


SETTINGS = typing.get_type_hints(Deployment)
"""Name -> type of a setting."""
