"""What one record holds: the features of a tf.Example, their types and lengths."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.checks import check_choice

VARIABLE = -1
_DTYPES = {"int64_list": tf.int64, "float_list": tf.float32, "bytes_list": tf.string}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record.

    >>> from recap_tf.data.schema import Feature
    >>> Feature("age", "float_list", 1).tensor_dtype
    tf.float32

    Args:
        name: its key in the tf.Example.
        dtype: "int64_list", "float_list" or "bytes_list".
        length: how many values it holds; `VARIABLE` (-1) for any number.
    """

    name: str
    dtype: str
    length: int

    def __post_init__(self):
        check_choice(f"dtype of feature {self.name!r}", self.dtype, sorted(_DTYPES))
        if self.length < 1 and self.length != VARIABLE:
            raise ValueError(
                f"length of feature {self.name!r} must be at least 1, or -1 for a "
                f"variable length. Received: {self.length}"
            )

    @property
    def tensor_dtype(self) -> tf.DType:
        """The type of its values in a tensor."""
        return _DTYPES[self.dtype]


class Schema(Mapping[str, Feature]):
    """Feature name -> Feature, as read from the JSON file at `path`.

    {"schema": [{"feature_name": "age", "dtype": "float_list", "length": 1}]}

    >>> from recap_tf.data.schema import Feature, Schema
    >>> schema = Schema([Feature("age", "float_list", 1)])
    >>> schema["age"].length
    1
    """

    def __init__(self, features: Iterable[Feature], path: str = "schema"):
        self.path = path
        self._features = {}
        for feature in features:
            if feature.name in self._features:
                raise ValueError(f"{path}: feature {feature.name!r} appears twice.")
            self._features[feature.name] = feature

    def __getitem__(self, name: str) -> Feature:
        if name not in self._features:
            raise ValueError(f"Feature {name!r} is not in the schema {self.path}.")
        return self._features[name]

    def __contains__(self, name: object) -> bool:
        return name in self._features

    def __iter__(self):
        return iter(self._features)

    def __len__(self):
        return len(self._features)


def read_schema(path: str) -> Schema:
    """Reads a schema file.

    >>> import tempfile
    >>> from recap_tf.data.schema import Feature, read_schema, write_schema
    >>> path = f"{tempfile.mkdtemp()}/schema.json"
    >>> write_schema(path, [Feature("age", "float_list", 1)])
    >>> read_schema(path)["age"]
    Feature(name='age', dtype='float_list', length=1)

    Raises:
        ValueError: the file is missing or not in the format above; the message
            names the file and what is wrong.
    """
    if not tf.io.gfile.exists(path):
        raise ValueError(f"The schema file {path} does not exist.")
    try:
        with tf.io.gfile.GFile(path) as file:
            entries = json.load(file)["schema"]
        features = [
            Feature(entry["feature_name"], entry["dtype"], int(entry["length"]))
            for entry in entries
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a schema: expected {{"schema": [{{"feature_name", "dtype", '
            f'"length"}}, ...]}}. Received: {type(error).__name__}: {error}'
        ) from error
    return Schema(features, path)


def write_schema(path: str, features: Iterable[Feature]) -> None:
    """Writes a schema file that `read_schema` reads."""
    entries = [
        {"feature_name": f.name, "dtype": f.dtype, "length": f.length} for f in features
    ]
    files.write_text(path, json.dumps({"schema": entries}, indent=1) + "\n")
