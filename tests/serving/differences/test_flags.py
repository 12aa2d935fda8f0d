"""The command line: what works with tensorflow_model_server starts here."""

import re
import subprocess
import sys

import pytest
from differences import row
from served import ROOT, Code, fails, free_port, request
from served_outside import refused, serving

ROW = {"instances": [[1.0]]}
WITHOUT_MEANING = {
    "flush_filesystem_caches": True,
    "per_process_gpu_memory_fraction": 0.5,
    "remove_unused_fields_from_bundle_metagraph": True,
    "enable_profiler": True,
    "num_tflite_pools": 1,
    "num_tflite_interpreters_per_pool": 1,
}
NOT_HERE = {
    "tensorflow_session_config_file": "/session.config",
    "platform_config_file": "/platform.config",
    "use_alts_credentials": True,
    "prefer_tflite_model": True,
    "xla_cpu_compilation_enabled": True,
    "xla_gpu_compilation_enabled": True,
    "thread_pool_factory_config_file": "/threads.config",
    "mixed_precision": "bfloat16",
    "skip_initialize_tpu": True,
}
AT_DEFAULT = {
    "tensorflow_session_config_file": "",
    "platform_config_file": "",
    "use_alts_credentials": False,
    "prefer_tflite_model": False,
    "enable_signature_method_name_check": False,
    "enable_per_model_batching_parameters": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
}


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    return exports.copy("two", tmp_path_factory.mktemp("flags") / "m" / "1")


@row(
    "A7",
    tf_serving="flags that tune its file caches, GPU memory, profiler and TF Lite",
    here="they are accepted, and a line on stderr says that they have no effect",
)
def test_flags_without_meaning_here_are_accepted(base):
    with serving(model_base_path=base, **WITHOUT_MEANING) as server:
        assert server.post("default", ROW)[0] == 200
        lines = server.said().splitlines()
    for flag in WITHOUT_MEANING:
        assert [line for line in lines if f"--{flag}" in line], flag


@row(
    "A7",
    tf_serving="flags for what `serving.server` cannot do",
    here="they are accepted at their defaults",
)
def test_flags_of_what_is_not_here_are_accepted_at_their_defaults(base):
    with serving(model_base_path=base, **AT_DEFAULT) as server:
        assert server.post("default", ROW)[0] == 200
        # What has its default needs no word.
        assert not [flag for flag in AT_DEFAULT if f"--{flag}" in server.said()]


@row(
    "A7",
    tf_serving="flags for what `serving.server` cannot do",
    here="with another value each is refused by its name",
)
def test_flags_of_what_is_not_here_are_refused_by_name(base):
    code, said = refused(model_base_path=base, **NOT_HERE)
    assert code == 2
    for flag in NOT_HERE:
        assert f"--{flag}" in said
    assert "unrecognized arguments" not in said
    assert "Traceback" not in said


@row(
    "A7",
    tf_serving="a flag that it does not know is printed, and passed over",
    here="a flag that nobody knows ends the start: it is a slip of the pen",
)
def test_unknown_flags_end_the_start(base):
    code, said = refused(model_base_path=base, model_base_pth="x")
    assert (code, "--model_base_pth" in said) == (2, True)


@row(
    "A7",
    tf_serving="`--enable_per_model_batching_parameters` reads batching_params.pbtxt "
    "beside a model's saved_model.pb",
)
def test_batching_parameters_of_each_model(exports, tmp_path):
    small = exports.copy("two", tmp_path / "small" / "1")
    (small / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    large = exports.copy("two", tmp_path / "large" / "1")
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {"
        + "".join(
            f' config {{ name: "{base.name}" base_path: "{base}" }}'
            for base in (small, large)
        )
        + " }"
    )
    with serving(
        model_config_file=config,
        enable_batching=True,
        enable_per_model_batching_parameters=True,
    ) as server:
        three = [[1.0], [2.0], [3.0]]
        assert fails(server.prediction.Predict, request(three, name="small")) == (
            Code.INVALID_ARGUMENT,
            "Task size 3 is larger than maximum input batch size 2",
        )
        assert server.post("small", {"instances": three[:2]})[0] == 200
        assert server.post("large", {"instances": three})[0] == 200


@row("B21", tf_serving="--rest_api_timeout_in_ms of 0 means none")
def test_no_timeout_over_rest(base):
    with serving(model_base_path=base, rest_api_timeout_in_ms=0) as server:
        assert server.post("default", ROW)[0] == 200


@row(
    "B29",
    tf_serving="client_verify without custom_ca is possible",
    here="client_verify needs custom_ca; a unix socket is never encrypted",
)
def test_clients_are_verified_by_an_authority(base, tmp_path):
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "k" server_cert: "c" client_verify: true')
    code, said = refused(model_base_path=base, ssl_config_file=file)
    assert (code, "custom_ca" in said) == (2, True)


@row(
    "B33",
    tf_serving="grpc_max_threads and rest_api_num_threads are four times the CPUs",
    here="128 threads each",
)
def test_threads_by_default():
    helped = subprocess.run(
        [sys.executable, "-m", "serving.server", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    words = " ".join(helped.stdout.split())
    for flag, default in (("grpc_max_threads", 128), ("rest_api_num_threads", 0)):
        assert re.search(rf"--{flag} INT [^()]*\(default: {default}\)", words)


@row(
    "B34",
    tf_serving="with one port for both, REST is left out; gRPC needs a port or socket",
    here="one port for both ends the start; REST may stand alone",
)
def test_one_port_for_both_ends_the_start(base):
    port = free_port()
    code, said = refused(model_base_path=base, port=port, rest_api_port=port)
    assert (code, str(port) in said) == (2, True)


@row(
    "B34",
    tf_serving="a gRPC port or socket is demanded",
    here="REST may stand alone",
)
@row(
    "B23",
    tf_serving="--model_base_path must be absolute",
    here="a relative one is of the current folder",
)
@row(
    "B35",
    tf_serving="--tensorflow_session_parallelism beside the other two is an error",
    here="the other two win over it",
)
def test_command_lines_that_it_would_refuse(base):
    with serving(
        folder=base.parent,
        model_base_path=base.name,
        port=0,
        tensorflow_session_parallelism=1,
        tensorflow_intra_op_parallelism=1,
        tensorflow_inter_op_parallelism=1,
    ) as server:
        assert server.post("default", ROW)[0] == 200
