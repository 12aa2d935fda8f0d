"""The server's flags: names and defaults of `tensorflow_model_server`, and limits."""

import argparse
import dataclasses
import typing
from collections.abc import Sequence

from serving.command import say
from serving.models.batching_settings import PARAMETERS_FILE

_WITHOUT_EFFECT = {
    "enable_profiler": bool,
    "flush_filesystem_caches": bool,
    "num_tflite_interpreters_per_pool": int,
    "num_tflite_pools": int,
    "per_process_gpu_memory_fraction": float,
    "remove_unused_fields_from_bundle_metagraph": bool,
}
"""Flags of `tensorflow_model_server` that are accepted: nothing depends on them."""
_REFUSED = {
    "mixed_precision": "",
    "platform_config_file": "",
    "prefer_tflite_model": False,
    "skip_initialize_tpu": False,
    "tensorflow_session_config_file": "",
    "thread_pool_factory_config_file": "",
    "use_alts_credentials": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
}
"""Further ones, of whose values only these, the defaults, are served as asked."""
_LEAST = {
    "rest_api_num_threads": 0,
    "model_config_file_poll_wait_seconds": 0,
    "max_num_load_retries": 0,
    "load_retry_interval_micros": 0,
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "grpc_max_threads": 1,
    "num_request_iterations_for_warmup": 0,
    "tensorflow_session_parallelism": 0,
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "max_message_bytes": 1,
    "max_json_bytes": 1,
    "max_tensor_bytes": 1,
    "max_memory_bytes": 1,
    "max_concurrent_requests": 1,
    "max_http_connections": 1,
    "max_receive_seconds": 0.001,
    "drain_seconds": 0,
}


def _flag(default, text: str):
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What the server was told: one field per flag, checked."""

    port: int = _flag(8500, "TCP port of gRPC; 0 for none")
    grpc_socket_path: str = _flag("", "unix socket of gRPC, beside the port")
    rest_api_port: int = _flag(0, "TCP port of HTTP/REST; 0 for none")
    rest_api_num_threads: int = _flag(0, "0: as many as --grpc_max_threads")
    rest_api_timeout_in_ms: int = _flag(30000, "longest time for a REST call; 0: none")
    rest_api_enable_cors_support: bool = _flag(False, "answer browsers elsewhere")
    model_name: str = _flag("default", "name of the model of --model_base_path")
    model_base_path: str = _flag("", "folder of one model's versions")
    model_config_file: str = _flag(
        "",
        "text ModelServerConfig: several models; --model_base_path and --model_name "
        "have no effect then",
    )
    model_config_file_poll_wait_seconds: int = _flag(0, "0: read the file once")
    enable_batching: bool = _flag(False, "put requests together")
    batching_parameters_file: str = _flag("", "text BatchingParameters")
    enable_per_model_batching_parameters: bool = _flag(
        False,
        f"text BatchingParameters in {PARAMETERS_FILE} in a version's folder; a "
        "version without the file is not batched",
    )
    monitoring_config_file: str = _flag("", "text MonitoringConfig")
    file_system_poll_wait_seconds: float = _flag(1, "0: look for versions once")
    max_num_load_retries: int = _flag(5, "further attempts to load a version")
    load_retry_interval_micros: int = _flag(60_000_000, "between two attempts")
    num_load_threads: int = _flag(0, "versions loaded at once; 0: one")
    num_unload_threads: int = _flag(0, "versions unloaded at once; 0: one")
    grpc_channel_arguments: str = _flag("", "k=v,k=v")
    grpc_max_threads: int = _flag(128, "calls that are answered at once")
    enable_model_warmup: bool = _flag(True, "run a version's recorded requests first")
    num_request_iterations_for_warmup: int = _flag(1, "times each is run; 0: once")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "labels that are not in use may name versions that are not loaded"
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, "outputs as bytes instead of typed fields"
    )
    enable_signature_method_name_check: bool = _flag(
        False, "Classify and Regress refuse signatures of another method"
    )
    ssl_config_file: str = _flag("", "text SSLConfig; gRPC is then encrypted")
    tensorflow_session_parallelism: int = _flag(0, "threads of each kind; 0: TF's")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads within an operation")
    tensorflow_inter_op_parallelism: int = _flag(0, "operations at once")
    enable_grpc_healthcheck_service: bool = _flag(False, "grpc.health.v1.Health")
    saved_model_tags: str = _flag("serve", "of the meta graph, comma-separated")
    host: str = _flag("localhost", "interface to listen on; 0.0.0.0 for all")
    max_message_bytes: int = _flag(64 << 20, "a larger gRPC request is refused")
    max_json_bytes: int = _flag(16 << 20, "a larger REST request, unpacked, is refused")
    max_tensor_bytes: int = _flag(256 << 20, "an input that takes more is refused")
    max_memory_bytes: int = _flag(
        2 << 30,
        "of all requests; more are refused. Beside it is what gRPC is still receiving: "
        "at most --max_message_bytes for each of --max_concurrent_requests",
    )
    max_concurrent_requests: int = _flag(1024, "more are refused")
    max_http_connections: int = _flag(256, "more are closed")
    max_receive_seconds: float = _flag(10, "longest time that a sender may take")
    drain_seconds: float = _flag(30, "for requests under way, after SIGTERM")

    def __post_init__(self):
        if not self.model_config_file and not self.model_base_path:
            raise ValueError(
                "--model_base_path or --model_config_file must say what to serve."
            )
        if self.batching_parameters_file and not self.enable_batching:
            raise ValueError(
                "--batching_parameters_file is set without --enable_batching."
            )
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(
                    f"--{name} must be at least {least}. Received: "
                    f"{getattr(self, name)}"
                )
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) < 1 << 16:
                raise ValueError(
                    f"--{name} must be from 0 to 65535. Received: {getattr(self, name)}"
                )
        if self.port and self.port == self.rest_api_port:
            raise ValueError(
                f"--port and --rest_api_port must differ. Received: {self.port} for "
                "both"
            )
        if not (self.port or self.grpc_socket_path or self.rest_api_port):
            raise ValueError(
                "--port=0 leaves nothing to listen on; give --grpc_socket_path or "
                "--rest_api_port."
            )
        channel_arguments(self.grpc_channel_arguments)


class _PrintVersion(argparse.Action):
    """Prints the version and ends the process.

    Argparse's own action wants the text beforehand, and TensorFlow, which knows it,
    takes seconds to import.
    """

    def __call__(self, parser: argparse.ArgumentParser, *_) -> None:
        import tensorflow as tf

        print(f"TensorFlow ModelServer API on TensorFlow Library: {tf.__version__}")
        parser.exit()


def parse_flags(argv: Sequence[str] | None) -> Flags:
    """The flags of a command line; unknown or malformed ones end the process.

    Raises:
        ValueError: a flag's value is out of bounds, or flags do not go together.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.server",
        description="Serves SavedModels over TF Serving's gRPC and REST APIs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action=_PrintVersion,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show program's version number and exit",
    )
    types = typing.get_type_hints(Flags)
    for field in dataclasses.fields(Flags):
        text = f"{field.metadata['help']} (default: {field.default!r})"
        _add(parser, field.name, types[field.name], field.default, text)
    for name, kind in _WITHOUT_EFFECT.items():
        text = "of tensorflow_model_server; has no effect here"
        _add(parser, name, kind, argparse.SUPPRESS, text)
    for name, default in _REFUSED.items():
        text = f"of tensorflow_model_server; refused here, but for {default!r}"
        _add(parser, name, type(default), argparse.SUPPRESS, text)
    given = vars(parser.parse_args(argv))
    refused = [
        f"--{name}={value}"
        for name, default in _REFUSED.items()
        if (value := given.pop(name, default)) != default
    ]
    if refused:
        raise ValueError(
            "These flags of tensorflow_model_server are not served here; leave them "
            f"out. Received: {', '.join(refused)}"
        )
    ignored = [name for name in _WITHOUT_EFFECT if given.pop(name, None) is not None]
    flags = Flags(**given)
    for name in ignored:
        say(f"--{name} has no effect here.")
    if flags.model_config_file and flags.model_base_path:
        say(
            "--model_base_path and --model_name have no effect: --model_config_file "
            "says what is served."
        )
    if flags.enable_per_model_batching_parameters and not flags.enable_batching:
        say("--enable_per_model_batching_parameters needs --enable_batching.")
    return flags


def _add(parser: argparse.ArgumentParser, name: str, kind, default, text: str) -> None:
    options = {"type": _truth if kind is bool else kind}
    if kind is bool:
        # --enable_batching and --enable_batching=true both.
        options |= {"nargs": "?", "const": True}
    parser.add_argument(
        f"--{name}",
        default=default,
        metavar=kind.__name__.upper(),
        help=text,
        **options,
    )


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """The (key, value) pairs of --grpc_channel_arguments; numbers become int."""
    pairs = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(
                f"--grpc_channel_arguments must be k=v,k=v. Received: {text!r}"
            )
        pairs.append((key, int(value) if value.lstrip("-").isdecimal() else value))
    return pairs


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")
    return known[text.lower()]
