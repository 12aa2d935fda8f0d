"""Record files -> batches of (features, labels, weights)."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.core.training.shard import WHOLE, Shard
from recap_tf.data import preprocess_steps, record_files, sampling
from recap_tf.data.data_errors import skip_errors
from recap_tf.data.downsampling import DownsampleNegatives
from recap_tf.data.mantissa_masking import mask_features
from recap_tf.data.preprocess_steps import Batch, Features, Step
from recap_tf.data.record_files import DatedFolders
from recap_tf.data.schema import VARIABLE, Schema, read_schema
from recap_tf.data.task_labels import task_labels

AUTOTUNE = tf.data.AUTOTUNE
FeatureSpec = tf.TensorSpec | tf.SparseTensorSpec


class Mode(enum.Enum):
    """What a data set is read for.

    TRAIN: forever, shuffled, full batches. EVALUATE: every record exactly once, in
    order, the last batch short. INFERENCE: as EVALUATE, features only.
    """

    TRAIN = "train"
    EVALUATE = "evaluate"
    INFERENCE = "inference"


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """One data set of tf.Examples in TFRecord files, gzipped or not.

    >>> from recap_tf.data.record_batches import Records
    >>> names = {"user.age": "age"}
    >>> Records(schema="schema.json", files="train/*.gz", features=names).names()
    {'user.age': 'age'}

    Args:
        schema: path of the schema file.
        files, dated_folders: a glob, or the folders of a log; exactly one of the two.
        features: name in the records -> name inside the model.
        extra_features: further features to read, under their own names.
        sampling_rates: task -> (share of its positives, share of its negatives) that
            this data set kept; (1, 1) where not listed.
        weigh_by_sampling_rates: in training, weight every example by how many it
            stands for. If not, the model's predictions have the rates undone instead.
            Evaluation always weights.
        preprocess: steps that change batches; see `recap_tf.data.preprocess_steps`.
        masked_mantissa_bits: feature of floats -> how many low bits to zero, 0 to 31.
        num_files_to_keep: read only the first files of the sorted list.
        shuffle_files: read them in another order each time, in training.
        shuffle_size: records in the shuffle buffer, in training; at least 1.
        parallel_reads: files read at once; at least 1.
        parallel_parses: batches parsed at once; -1 lets tf.data choose.
        cache: hold the unpacked records in memory from the first pass on.
        prefetch: batches made ahead; -1 lets tf.data choose.
        ignore_data_errors: go on after a damaged file or an unreadable batch, and say
            on stderr what was left out.
        data_service: address of a tf.data service that reads for the trainer.
        missing_tolerance: the share of records that may lack a feature; zeros stand
            in for what is missing.
    """

    schema: str
    files: str | None = None
    dated_folders: DatedFolders | None = None
    features: Mapping[str, str]
    extra_features: Sequence[str] = ()
    sampling_rates: Mapping[str, tuple[float, float]] = dataclasses.field(
        default_factory=dict
    )
    weigh_by_sampling_rates: bool = True
    preprocess: Sequence[Step] = ()
    masked_mantissa_bits: Mapping[str, int] = dataclasses.field(default_factory=dict)
    num_files_to_keep: int | None = None
    shuffle_files: bool = True
    shuffle_size: int = 1024
    parallel_reads: int = 4
    parallel_parses: int = AUTOTUNE
    cache: bool = False
    prefetch: int = 2
    ignore_data_errors: bool = False
    data_service: str | None = None
    missing_tolerance: float = 0.5

    def __post_init__(self):
        if (self.files is None) == (self.dated_folders is None):
            raise ValueError(
                "Records needs exactly one of files and dated_folders. Received: "
                f"files={self.files!r}, dated_folders={self.dated_folders}"
            )
        for name in ("shuffle_size", "parallel_reads"):
            check_range(f"Records.{name}", getattr(self, name), at_least=1)
        sampling.check_rates("Records.sampling_rates", self.sampling_rates)
        for name, bits in self.masked_mantissa_bits.items():
            setting = f"Records.masked_mantissa_bits[{name!r}]"
            check_range(setting, bits, at_least=0, below=32)
        preprocess_steps.in_order(self.preprocess)

    def paths(self) -> list[str]:
        """The files, sorted.

        Raises:
            ValueError: there are none.
        """
        if self.files is not None:
            paths = record_files.list_files(self.files)
        else:
            paths = self.dated_folders.paths()
        return paths[: self.num_files_to_keep]

    def names(self) -> dict[str, str]:
        """Name in the records -> name inside the model, of all features handed on."""
        return dict(self.features) | {name: name for name in self.extra_features}

    def label_features(self) -> dict[str, bool]:
        """The features read for the labels' sake alone; see `Step.label_features`."""
        expected = {}
        for step in self.preprocess:
            expected |= step.label_features()
        known = self.names().values()
        return {name: always for name, always in expected.items() if name not in known}


def read_batches(
    records: Records,
    tasks: Sequence[str],
    mode: Mode,
    batch_size: int,
    *,
    shard: Shard = WHOLE,
    seed: int = 0,
) -> tf.data.Dataset:
    """Reads a data set as batches.

    TRAIN and EVALUATE: (features, labels, weights); INFERENCE: features. Features are
    name -> (batch, length) tensors, sparse ones SparseTensors; labels (batch, tasks)
    integers 0 or 1; weights (batch, tasks) float32.

    >>> import tempfile
    >>> from recap_tf.data import record_writer, schema
    >>> from recap_tf.data.record_batches import Mode, Records, read_batches
    >>> path = tempfile.mkdtemp()
    >>> age = schema.Feature("age", "float_list", 1)
    >>> like = schema.Feature("like", "int64_list", 1)
    >>> schema.write_schema(f"{path}/schema.json", [age, like])
    >>> examples = {"age": [30.0, 40.0], "like": [1, 0]}
    >>> with record_writer.open_record_files([f"{path}/0.gz"]) as output:
    ...     output.write(record_writer.serialize_examples(examples))

    >>> files = {"schema": f"{path}/schema.json", "files": f"{path}/*.gz"}
    >>> records = Records(**files, features={"age": "continuous"})
    >>> batches = read_batches(records, ["like"], Mode.EVALUATE, batch_size=2)
    >>> features, labels, weights = next(iter(batches))
    >>> features["continuous"].numpy().tolist(), labels.numpy().tolist()
    ([[30.0], [40.0]], [[1], [0]])

    Args:
        tasks: the labels, in the order of their columns.
        batch_size: examples per batch of this pipeline.
        shard: the pipelines of a `shard.count` read different files.
        seed: of the shuffles; the same seed gives the same batches.
    """
    schema = read_schema(records.schema)
    steps = preprocess_steps.in_order(records.preprocess)
    multiplier = 1
    if mode is Mode.TRAIN:
        for step in steps:
            if isinstance(step, DownsampleNegatives):
                multiplier = step.batch_multiplier
    dataset = _serialized(records, mode, shard, seed)
    dataset = dataset.batch(
        batch_size * multiplier, drop_remainder=mode is Mode.TRAIN
    ).map(
        lambda serialized: _parsed_batch(
            records, schema, steps, list(tasks), mode, serialized
        ),
        num_parallel_calls=records.parallel_parses,
        deterministic=True,
    )
    if records.ignore_data_errors and records.data_service is None:
        dataset = skip_errors(dataset, "a batch that cannot be parsed was left out")
    elif records.ignore_data_errors:
        dataset = dataset.ignore_errors()
    if records.data_service is not None:
        dataset = dataset.apply(
            tf.data.experimental.service.distribute(
                tf.data.experimental.service.ShardingPolicy.OFF
                if mode is Mode.TRAIN
                else tf.data.experimental.service.ShardingPolicy.DYNAMIC,
                service=records.data_service,
                compression="AUTO",
            )
        )
    options = tf.data.Options()
    options.deterministic = True
    # The counters of skipped errors are functions with side effects; a saved
    # position does not need them.
    options.experimental_external_state_policy = (
        tf.data.experimental.ExternalStatePolicy.IGNORE
    )
    return dataset.prefetch(records.prefetch).with_options(options)


def _serialized(
    records: Records, mode: Mode, shard: Shard, seed: int
) -> tf.data.Dataset:
    """The records' bytes, one by one."""
    paths = record_files.shard(records.paths(), shard.index, shard.count)
    compressions = [record_files.compression(path) for path in paths]
    training = mode is Mode.TRAIN
    files = tf.data.Dataset.from_tensor_slices((paths, compressions))
    if training and records.shuffle_files:
        files = files.shuffle(len(paths), seed=seed, reshuffle_each_iteration=True)

    # Workers of a tf.data service run no Python, which the check of a file's end needs.
    check = records.data_service is None
    strict = not records.ignore_data_errors

    def read(path, compression):
        if check:
            return record_files.read_whole(path, compression, strict=strict)
        dataset = record_files.open_records(path, compression)
        return dataset if strict else dataset.ignore_errors()

    serialized = files.interleave(
        read,
        cycle_length=min(records.parallel_reads, len(paths)),
        num_parallel_calls=min(records.parallel_reads, len(paths)),
        deterministic=True,
    )
    if records.cache:
        serialized = serialized.cache()
    if training:
        # Repeated last: every pass holds every record once, in another order.
        serialized = serialized.shuffle(records.shuffle_size, seed=seed).repeat()
    return serialized


def _parsed_batch(
    records: Records,
    schema: Schema,
    steps: Sequence[Step],
    tasks: list[str],
    mode: Mode,
    serialized: tf.Tensor,
) -> Batch | Features:
    label_features = records.label_features()
    wanted = [] if mode is Mode.INFERENCE else [*tasks, *label_features]
    parsed = tf.io.parse_example(
        serialized, parsing_spec(schema, [*records.names(), *wanted])
    )
    features = rename(records, parsed)
    if mode is Mode.INFERENCE:
        return serving_features(records, features)
    features = mask_features(features, records.masked_mantissa_bits)
    features |= {name: parsed[name] for name in label_features}
    labels = task_labels(parsed, tasks, batch_size=serialized.shape[0])
    if mode is Mode.EVALUATE or records.weigh_by_sampling_rates:
        weights = sampling.sampling_weights(labels, tasks, records.sampling_rates)
    else:
        weights = tf.ones_like(labels, tf.float32)
    batch = (features, labels, weights)
    for step in steps:
        if mode is Mode.TRAIN or not step.training_only:
            batch = step(batch, tasks)
    features, labels, weights = batch
    inputs = {n: value for n, value in features.items() if n not in label_features}
    return inputs, labels, weights


def parsing_spec(schema: Schema, names: Sequence[str]) -> dict:
    """What tf.io.parse_example needs to read `names`.

    A feature of fixed length that a record lacks reads as zeros, or empty strings; a
    feature of variable length is sparse.
    """
    spec = {}
    for name in names:
        feature = schema[name]
        if feature.length == VARIABLE:
            spec[name] = tf.io.VarLenFeature(feature.tensor_dtype)
        else:
            empty = "" if feature.tensor_dtype is tf.string else 0
            spec[name] = tf.io.FixedLenFeature(
                [feature.length], feature.tensor_dtype, [empty] * feature.length
            )
    return spec


def rename(records: Records, parsed: Mapping[str, tf.Tensor]) -> Features:
    """The features of `parsed` that the model takes, under its names."""
    return {inside: parsed[name] for name, inside in records.names().items()}


def serving_features(records: Records, features: Features) -> Features:
    """What training does to features alone, for a model that scores new ones."""
    features = mask_features(dict(features), records.masked_mantissa_bits)
    for step in preprocess_steps.in_order(records.preprocess):
        features = step.serve(features)
    return features


def raw_feature_specs(records: Records) -> dict[str, FeatureSpec]:
    """Name inside the model -> (batch, length) spec, as the records hold it; sparse
    where the length varies."""
    schema = read_schema(records.schema)
    specs = {}
    for name, inside in records.names().items():
        length, dtype = schema[name].length, schema[name].tensor_dtype
        if length == VARIABLE:
            specs[inside] = tf.SparseTensorSpec([None, None], dtype)
        else:
            specs[inside] = tf.TensorSpec([None, length], dtype, inside)
    return specs


def feature_specs(records: Records) -> dict[str, FeatureSpec]:
    """Name inside the model -> (batch, ...) spec, after preprocessing."""
    traced = tf.function(lambda raw: serving_features(records, raw))
    outputs = traced.get_concrete_function(raw_feature_specs(records))
    return {
        name: tf.SparseTensorSpec([None, None], value.dtype)
        if isinstance(value, tf.SparseTensor)
        else tf.TensorSpec(value.shape, value.dtype, name)
        for name, value in outputs.structured_outputs.items()
    }


def sampling_ratios(records: Records, tasks: Sequence[str]) -> dict[str, float]:
    """Task -> the r of `sampling.undo_sampling` for a model trained on `records`.

    1 where the examples are weighted: they already stand for the original traffic.
    """
    rates = {} if records.weigh_by_sampling_rates else records.sampling_rates
    return sampling.sampling_ratios(tasks, rates)
