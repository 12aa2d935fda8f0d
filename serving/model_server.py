"""A running server: models, the calls of the API, gRPC and REST in front of them."""

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable

import tensorflow as tf

from serving.api.metadata import not_available
from serving.api.service import Service
from serving.api.warmup import warm_up
from serving.command import say
from serving.errors import ServingError, invalid
from serving.fronts import grpc_front, text_configs
from serving.fronts.flags import Flags, channel_arguments
from serving.fronts.grpc_front import GrpcFront
from serving.fronts.rest_front import RestFront
from serving.memory_limits import MemoryLimits
from serving.models import batching_settings
from serving.models.batching_settings import PARAMETERS_FILE, Batching
from serving.models.catalog import Catalog
from serving.models.lifecycle import Lifecycle
from serving.models.loader import Loader
from serving.models.saved_model import SavedModel
from serving.models.served_model import ModelConfig
from serving.monitoring import ModelRuns, Monitoring
from serving.status_codes import Code

_METRICS_PATH = "/monitoring/prometheus/metrics"


class Server:
    """A running server; what `python -m serving.server` starts.

    Args:
        flags: what to serve, where and how; checked.

    Raises:
        ServingError: a config file is bad, or an address is in use.
    """

    def __init__(self, flags: Flags):
        self._flags = flags
        self.monitoring = Monitoring()
        batching = _read_batching(flags)
        ssl = flags.ssl_config_file and text_configs.read_text_config(
            flags.ssl_config_file, text_configs.SSLConfig
        )
        credentials = grpc_front.tls_credentials(ssl) if ssl else None
        metrics_path = _read_metrics_path(flags)
        self._configs = self._read_models()
        if self._configs is None:
            file = flags.model_config_file
            say(f"{file} has no model_config_list: nothing is served.")
        self.catalog = Catalog()
        self.lifecycle = Lifecycle(
            self.catalog,
            Loader(
                self._warm_up,
                tags=flags.saved_model_tags.split(","),
                config=tf.compat.v1.ConfigProto(
                    intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism
                    or flags.tensorflow_session_parallelism,
                    inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism
                    or flags.tensorflow_session_parallelism,
                ),
                batching=batching,
                runs=lambda name: ModelRuns(self.monitoring, name),
                ahead=flags.file_system_poll_wait_seconds > 0,
            ),
            load_threads=flags.num_load_threads,
            unload_threads=flags.num_unload_threads,
            load_retries=flags.max_num_load_retries,
            retry_seconds=flags.load_retry_interval_micros / 1e6,
            labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        )
        self.service = Service(
            self.catalog,
            self.lifecycle,
            self.monitoring,
            as_content=flags.enable_serialization_as_tensor_content,
            limits=_limits(flags),
            most_requests=flags.max_concurrent_requests,
            check_methods=flags.enable_signature_method_name_check,
        )
        addresses = [f"{flags.host}:{flags.port}"] if flags.port else []
        if flags.grpc_socket_path:
            addresses.append(f"unix:{flags.grpc_socket_path}")
        self._ended = threading.Event()
        self.rest = self.grpc = None
        # What cannot be listened on is said before models are loaded for minutes; the
        # kernel keeps callers waiting until then.
        if addresses:
            self.grpc = GrpcFront(
                self.service,
                addresses,
                credentials=credentials,
                threads=flags.grpc_max_threads,
                most_message_bytes=flags.max_message_bytes,
                most_calls=flags.max_concurrent_requests,
                receive_seconds=flags.max_receive_seconds,
                health_service=flags.enable_grpc_healthcheck_service,
                channel_arguments=channel_arguments(flags.grpc_channel_arguments),
            )
        self._metrics_path = metrics_path

    def start(self, *, must_load: bool = False) -> None:
        """Loads the models and answers from then on.

        Args:
            must_load: raise, before anything can connect, if a model has versions and
                none of them can be loaded.

        Raises:
            ServingError: UNKNOWN, because of `must_load`; or the settings or labels of
                the models cannot be.
        """
        flags = self._flags
        unavailable = self.lifecycle.configure(self._configs or [])
        failed = [each for each in unavailable if each.version is not None]
        if must_load and failed:
            raise ServingError(Code.UNKNOWN, not_available("servable", failed))
        if flags.file_system_poll_wait_seconds > 0:
            self.lifecycle.start_polling(flags.file_system_poll_wait_seconds)
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            threading.Thread(
                target=self._poll_config, name="poll-config", daemon=True
            ).start()
        if self.grpc is not None:
            self.grpc.start()
        if flags.rest_api_port:
            self.rest = RestFront(
                self.service,
                host=flags.host,
                port=flags.rest_api_port,
                threads=flags.rest_api_num_threads or flags.grpc_max_threads,
                timeout_seconds=max(0, flags.rest_api_timeout_in_ms) / 1000 or None,
                most_body_bytes=flags.max_json_bytes,
                most_connections=flags.max_http_connections,
                receive_seconds=flags.max_receive_seconds,
                cors=flags.rest_api_enable_cors_support,
                metrics_path=self._metrics_path,
            )
        if self.grpc is not None:
            if self.lifecycle.have_served():
                self.grpc.say_serving()
            else:
                threading.Thread(
                    target=self._wait_to_serve, name="wait-to-serve", daemon=True
                ).start()

    def _wait_to_serve(self) -> None:
        """Says that it serves when every model has had a version, and ever after."""
        if self.lifecycle.wait_until_served():
            self.grpc.say_serving()

    def drain(self) -> None:
        """Answers what was accepted; the process may end then."""
        self._ended.set()
        fronts = [front for front in (self.grpc, self.rest) if front is not None]
        # At the same time: one deadline for both.
        with concurrent.futures.ThreadPoolExecutor(2, "drain") as pool:
            seconds = self._flags.drain_seconds
            for drained in [pool.submit(front.drain, seconds) for front in fronts]:
                drained.result()

    def stop(self) -> None:
        """Answers what was accepted, and leaves nothing behind."""
        self.drain()
        for front in (self.grpc, self.rest):
            if front is not None:
                front.stop()
        self.lifecycle.close()

    def _read_models(self) -> list[ModelConfig] | None:
        """The models of the flags; None if the config file does not say."""
        flags = self._flags
        if flags.model_config_file:
            config = text_configs.read_text_config(
                flags.model_config_file, text_configs.ModelServerConfig
            )
            kind = config.WhichOneof("config")
            if kind == "custom_model_config":
                raise invalid(
                    f"{flags.model_config_file} has a custom_model_config, which "
                    "nothing here reads; expected model_config_list"
                )
            return list(config.model_config_list.config) if kind else None
        # The flag may be relative to the current folder; a config file's paths not.
        path = flags.model_base_path
        path = path if "://" in path else os.path.abspath(path)
        return [
            ModelConfig(
                name=flags.model_name, base_path=path, model_platform="tensorflow"
            )
        ]

    def _poll_config(self) -> None:
        """Reads the config file again and again; a bad one changes nothing."""
        said = None
        while not self._ended.wait(self._flags.model_config_file_poll_wait_seconds):
            try:
                configs = self._read_models()
                if configs is None:
                    # Emptied, or not yet written: only a list that is there unloads.
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"{self._flags.model_config_file} has no model_config_list. "
                        "Cannot transition to requested config. It is only legal to "
                        "transition from one ModelConfigList to another.",
                    )
                if configs != self._configs:
                    # A label may wait for its version to be available. What is served
                    # until then is of neither file: the old one counts as new too.
                    self._configs = None
                    self.lifecycle.configure(configs)
                    self._configs = configs
                said = None
            except Exception as error:  # The next reading may find it in order.
                # Once for each time that the file is written.
                problem = str(error), _written(self._flags.model_config_file)
                if problem != said:
                    said = problem
                    say(f"The config stays as it was: {error}")

    def _warm_up(self, model: SavedModel) -> None:
        flags = self._flags
        if not flags.enable_model_warmup:
            return
        started, status, monitoring = time.perf_counter(), Code.OK, self.monitoring
        count = 0
        try:
            count = warm_up(
                model,
                iterations=max(1, flags.num_request_iterations_for_warmup),
                # Not the traffic's: a version must load however much there is.
                limits=_limits(flags),
            )
        except ServingError as error:
            status = error.code
            raise
        finally:
            if count or status is not Code.OK:
                micros = (time.perf_counter() - started) * 1e6
                monitoring.model_warmup_latency.observe(micros, model.path, status.name)
                monitoring.model_warmup_records_read.add(model.path, amount=count)


def _written(path: str) -> tuple[int, int] | None:
    """Time and size of a file; None if it is not there."""
    try:
        stat = tf.io.gfile.stat(path)
    except tf.errors.OpError:
        return None
    return stat.mtime_nsec, stat.length


def _limits(flags: Flags) -> MemoryLimits:
    return MemoryLimits(
        tensor_bytes=flags.max_tensor_bytes, memory_bytes=flags.max_memory_bytes
    )


def _read_batching(flags: Flags) -> Callable[[str], Batching | None]:
    """How the requests of the version in a folder are put together."""
    if not flags.enable_batching:
        return lambda path: None
    common = Batching()
    if flags.batching_parameters_file:
        common = _batching_of(flags.batching_parameters_file)
    if not flags.enable_per_model_batching_parameters:
        return lambda path: common

    def of_version(path: str) -> Batching | None:
        file = f"{path}/{PARAMETERS_FILE}"
        return _batching_of(file) if tf.io.gfile.exists(file) else None

    return of_version


def _batching_of(path: str) -> Batching:
    return batching_settings.from_parameters(
        text_configs.read_text_config(path, text_configs.BatchingParameters)
    )


def _read_metrics_path(flags: Flags) -> str | None:
    if not flags.monitoring_config_file:
        return None
    config = text_configs.read_text_config(
        flags.monitoring_config_file, text_configs.MonitoringConfig
    ).prometheus_config
    return (config.path or _METRICS_PATH) if config.enable else None
