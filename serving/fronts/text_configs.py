"""The text-format files that the server's flags name.

The package tensorflow-serving-api holds ModelServerConfig. Three smaller messages are
in TF Serving's server alone and are declared here with the same names and fields.
"""

import tensorflow as tf
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import invalid

ModelServerConfig = model_server_config_pb2.ModelServerConfig

_SCALARS = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}
_MESSAGES = {
    "BatchingParameters": [
        ("max_batch_size", ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", ".google.protobuf.Int64Value"),
        ("num_batch_threads", ".google.protobuf.Int64Value"),
        ("thread_pool_name", ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", "repeated int64"),
        ("pad_variable_length_inputs", "bool"),
        ("enable_large_batch_splitting", ".google.protobuf.BoolValue"),
        ("max_execution_batch_size", ".google.protobuf.Int64Value"),
    ],
    "PrometheusConfig": [("enable", "bool"), ("path", "string")],
    "MonitoringConfig": [("prometheus_config", ".tensorflow.serving.PrometheusConfig")],
    "SSLConfig": [
        ("server_key", "string"),
        ("server_cert", "string"),
        ("custom_ca", "string"),
        ("client_verify", "bool"),
    ],
}


def _declare() -> dict[str, type[message.Message]]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/text_configs.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields, start=1):
            repeated = kind.startswith("repeated ")
            kind = kind.removeprefix("repeated ")
            added = declared.field.add(
                name=field_name,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = field.TYPE_MESSAGE, kind
    # A pool of its own: another package may declare messages of these names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"tensorflow.serving.{name}")
        )
        for name in _MESSAGES
    }


_CLASSES = _declare()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]


def read_text_config(path: str, kind: type[message.Message]) -> message.Message:
    """Parses a text-format file as a message of class `kind`.

    Raises:
        ServingError: INVALID_ARGUMENT, the file cannot be read or is not such a
            message, with its name and the place of the fault.
    """
    name = kind.DESCRIPTOR.full_name
    try:
        with tf.io.gfile.GFile(path) as file:
            text = file.read()
    except tf.errors.OpError as error:
        raise invalid(f"Error reading {name} from {path}: {error.message}") from error
    except UnicodeDecodeError as error:
        raise invalid(f"Error parsing text-format {name}: {path} is no text") from error
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise invalid(f"Error parsing text-format {name}: {path}:{error}") from error
