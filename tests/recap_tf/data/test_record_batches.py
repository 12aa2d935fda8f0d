"""Reading record files: what arrives, in which order, and what is refused."""

import gzip
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data import record_batches
from recap_tf.data.downsampling import DownsampleNegatives
from recap_tf.data.feature_steps import TruncateAndSlice
from recap_tf.data.record_batches import Mode, Records, Shard, read_batches
from recap_tf.data.record_files import DatedFolders
from recap_tf.data.schema import read_schema

RENAMED = {
    "home_recap_2022_cont__segdense_vals": "continuous",
    "home_recap_2022_binary__segdense_vals": "binary",
    "home_recap_2022_discrete__segdense_vals": "discrete",
    "user.timelines.twhin_user_follow_embeddings.twhin_user_follow_embeddings": (
        "user_embedding"
    ),
    "user.timelines.twhin_user_engagement_embeddings."
    "twhin_user_engagement_embeddings": "user_eng_embedding",
    "original_author.timelines.twhin_author_follow_embeddings."
    "twhin_author_follow_embeddings": "author_embedding",
    "meta.author_id": "meta__author_id",
    "meta.user_id": "meta__user_id",
    "meta.tweet_id": "meta__tweet_id",
}


def test_golden_data_tf_example(golden):
    arrays = golden("data_tf_example")
    tasks = [str(task) for task in arrays["task_names"]]
    rates = zip(
        arrays["pos_downsampling_rate"], arrays["neg_downsampling_rate"], strict=True
    )
    records = Records(
        schema=golden.path("data_tf_example_segdense.json"),
        files=golden.path("data_tf_example.tfrecord.gz"),
        features=RENAMED,
        sampling_rates={
            t: tuple(map(float, r)) for t, r in zip(tasks, rates, strict=True)
        },
        preprocess=[
            TruncateAndSlice(
                continuous_truncation=int(arrays["continuous_truncation"]),
                binary_truncation=int(arrays["binary_truncation"]),
            )
        ],
    )
    [(features, labels, weights)] = read_batches(
        records, tasks, Mode.EVALUATE, len(arrays["labels"])
    )
    np.testing.assert_array_equal(labels, arrays["labels"])
    np.testing.assert_allclose(weights, arrays["weights"], rtol=1e-6)
    assert set(features) == set(RENAMED.values())
    for name, value in features.items():
        np.testing.assert_array_equal(value, arrays[name], err_msg=name)


SCHEMA = {
    "id": ("int64_list", 1),
    "numbers": ("float_list", 2),
    "tags": ("int64_list", -1),
    "name": ("bytes_list", 1),
    "like": ("int64_list", 1),
    "reply": ("int64_list", 1),
}
LISTS = {
    "int64_list": lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=v)),
    "float_list": lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v)),
    "bytes_list": lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)),
}


def _example(**values) -> bytes:
    features = {name: LISTS[SCHEMA[name][0]](value) for name, value in values.items()}
    return tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()


def _write(path, ids, compression="GZIP") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as file:
        for i in ids:
            file.write(
                _example(id=[i], numbers=[i, -i], like=[i % 2], reply=[int(i % 5 == 0)])
            )


@pytest.fixture
def folder(tmp_path):
    """Three files of ten records each, ids 0..29."""
    entries = [
        {"feature_name": name, "dtype": dtype, "length": length}
        for name, (dtype, length) in SCHEMA.items()
    ]
    (tmp_path / "schema.json").write_text(json.dumps({"schema": entries}))
    for i in range(3):
        _write(tmp_path / f"part-{i}.gz", range(10 * i, 10 * i + 10))
    return tmp_path


def _records(folder, **settings) -> Records:
    defaults = {
        "schema": str(folder / "schema.json"),
        "files": None if "dated_folders" in settings else str(folder / "part-*"),
        "features": {"id": "id", "numbers": "continuous"},
    }
    return Records(**(defaults | settings))


def _ids(dataset, batches=None) -> list[list[int]]:
    found = []
    for element in dataset.take(-1 if batches is None else batches):
        features = element[0] if isinstance(element, tuple) else element
        found.append(features["id"].numpy()[:, 0].tolist())
    return found


def _flat(lists) -> list[int]:
    return [x for part in lists for x in part]


@pytest.mark.parametrize("mode", [Mode.EVALUATE, Mode.INFERENCE])
def test_evaluation_reads_every_record_exactly_once(folder, mode):
    batches = _ids(read_batches(_records(folder), ["like"], mode, 8))
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    assert sorted(_flat(batches)) == list(range(30))


def test_training_repeats_full_batches_with_every_record_in_each_pass(folder):
    records = _records(folder, shuffle_size=5)
    batches = _ids(read_batches(records, ["like"], Mode.TRAIN, 6), batches=20)
    assert {len(batch) for batch in batches} == {6}
    passes = [batches[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(_flat(one)) == list(range(30)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_the_seed_decides_the_order(folder):
    def read(seed):
        dataset = read_batches(_records(folder), ["like"], Mode.TRAIN, 6, seed=seed)
        return _ids(dataset, batches=10)

    assert read(1) == read(1) != read(2)


def test_labels_are_paired_by_name(folder):
    def labels(tasks):
        [(features, labels, _)] = read_batches(
            _records(folder), tasks, Mode.EVALUATE, 30
        )
        return features["id"].numpy()[:, 0], labels.numpy()

    ids, both = labels(["reply", "like"])
    np.testing.assert_array_equal(both, np.stack([ids % 5 == 0, ids % 2], axis=1))
    np.testing.assert_array_equal(labels(["like"])[1], both[:, 1:])


def test_a_saved_position_continues_the_same_batches(folder):
    for settings in ({}, {"cache": True}, {"ignore_data_errors": True}):
        dataset = read_batches(
            _records(folder, shuffle_size=7, **settings), ["like"], Mode.TRAIN, 4
        )
        iterator = iter(dataset)
        for _ in range(3):
            next(iterator)
        path = tf.train.Checkpoint(iterator=iterator).write(str(folder / "position"))
        expected = [next(iterator)[0]["id"].numpy().tolist() for _ in range(12)]
        fresh = iter(dataset)
        tf.train.Checkpoint(iterator=fresh).read(path)
        again = [next(fresh)[0]["id"].numpy().tolist() for _ in range(12)]
        assert again == expected, settings


def test_compression_is_found_by_content(folder):
    _write(folder / "part-0.gz", range(10), compression="")
    (folder / "part-1.gz").rename(folder / "part-1")
    batches = _ids(read_batches(_records(folder), ["like"], Mode.EVALUATE, 30))
    assert sorted(_flat(batches)) == list(range(30))


def test_shards_share_the_files(folder):
    parts = [
        _ids(
            read_batches(
                _records(folder), ["like"], Mode.EVALUATE, 9, shard=Shard(i, 2)
            )
        )
        for i in range(2)
    ]
    assert sorted(_flat(parts[0]) + _flat(parts[1])) == list(range(30))
    with pytest.raises(ValueError, match="3 files cannot be shared out to 4"):
        read_batches(_records(folder), ["like"], Mode.TRAIN, 9, shard=Shard(0, 4))


def test_number_of_files_to_keep(folder):
    records = _records(folder, num_files_to_keep=1)
    batches = _ids(read_batches(records, ["like"], Mode.EVALUATE, 30))
    assert sorted(_flat(batches)) == list(range(10))


def test_cached_records_are_shuffled_anew_and_survive_the_files(folder):
    records = _records(folder, cache=True)
    iterator = iter(read_batches(records, ["like"], Mode.TRAIN, 30))
    first = next(iterator)[0]["id"].numpy()[:, 0].tolist()
    shutil.rmtree(folder)
    later = [next(iterator)[0]["id"].numpy()[:, 0].tolist() for _ in range(5)]
    assert all(sorted(one) == list(range(30)) for one in later)
    assert first not in later


def test_sparse_bytes_and_missing_features(folder):
    with tf.io.TFRecordWriter(str(folder / "part-0.gz"), "GZIP") as file:
        file.write(_example(id=[1], tags=[7, 8], name=[b"ann"], like=[1]))
        file.write(_example(id=[2], numbers=[1.0, 2.0]))
    records = _records(folder, num_files_to_keep=1, extra_features=["tags", "name"])
    [(features, labels, _)] = read_batches(records, ["like"], Mode.EVALUATE, 9)
    np.testing.assert_array_equal(features["continuous"], [[0, 0], [1, 2]])
    np.testing.assert_array_equal(
        tf.sparse.to_dense(features["tags"]), [[7, 8], [0, 0]]
    )
    np.testing.assert_array_equal(features["name"], [[b"ann"], [b""]])
    np.testing.assert_array_equal(labels, [[1], [0]])


@pytest.mark.parametrize(
    "mode, weighed, positive, negative, ratio",
    [
        (Mode.TRAIN, True, 2.0, 10.0, 1.0),
        (Mode.TRAIN, False, 1.0, 1.0, 0.2),
        (Mode.EVALUATE, False, 2.0, 10.0, 0.2),
    ],
    ids=["weighted", "undone instead", "evaluation"],
)
def test_weights_stand_for_what_was_sampled_away(
    folder, mode, weighed, positive, negative, ratio
):
    records = _records(
        folder, sampling_rates={"like": (0.5, 0.1)}, weigh_by_sampling_rates=weighed
    )
    tasks = ["reply", "like"]
    _, labels, weights = next(iter(read_batches(records, tasks, mode, 30)))
    expected = np.where(labels[:, 1] == 1, positive, negative)
    np.testing.assert_allclose(weights[:, 1], expected)
    np.testing.assert_array_equal(weights[:, 0], 1.0)
    ratios = record_batches.sampling_ratios(records, tasks)
    assert ratios == {"reply": 1.0, "like": ratio}


def test_downsampling_fills_training_batches_only(folder):
    step = DownsampleNegatives(batch_multiplier=3, engagements=["reply"])
    records = _records(folder, preprocess=[step])
    _, labels, weights = next(iter(read_batches(records, ["reply"], Mode.TRAIN, 10)))
    # 30 records are one pass: its 6 positives, and 4 negatives that stand for 24.
    np.testing.assert_array_equal(labels[:, 0], [1] * 6 + [0] * 4)
    np.testing.assert_allclose(weights[:, 0], [1] * 6 + [6] * 4)
    batches = _ids(read_batches(records, ["reply"], Mode.EVALUATE, 30))
    assert sorted(_flat(batches)) == list(range(30))


def test_training_batches_have_static_shapes(folder):
    step = DownsampleNegatives(batch_multiplier=2, engagements=["like"])
    for steps in ([], [step]):
        records = _records(folder, preprocess=steps)
        spec = read_batches(records, ["like"], Mode.TRAIN, 4).element_spec
        shapes = [part.shape for part in tf.nest.flatten(spec)]
        assert all(shape[0] == 4 and shape.is_fully_defined() for shape in shapes)


def test_masked_mantissa_bits(folder):
    _write(folder / "part-0.gz", [3])
    records = _records(
        folder, num_files_to_keep=1, masked_mantissa_bits={"continuous": 22}
    )
    for mode in Mode:
        element = next(iter(read_batches(records, ["like"], mode, 1)))
        features = element if mode is Mode.INFERENCE else element[0]
        # 3 = 1.5 * 2; of its mantissa one bit stays.
        np.testing.assert_array_equal(features["continuous"], [[3, -3]])
    records = _records(
        folder, num_files_to_keep=1, masked_mantissa_bits={"continuous": 23}
    )
    features, _, _ = next(iter(read_batches(records, ["like"], Mode.TRAIN, 1)))
    np.testing.assert_array_equal(features["continuous"], [[2, -2]])


def test_specs_before_and_after_preprocessing(folder):
    records = _records(
        folder,
        extra_features=["tags"],
        preprocess=[TruncateAndSlice(continuous_truncation=1)],
    )
    assert record_batches.raw_feature_specs(records)["continuous"].shape == [None, 2]
    assert record_batches.feature_specs(records)["continuous"].shape == [None, 1]


@pytest.fixture
def dated(folder):
    for day, ids in {"01": [1], "02": [2], "04": [4]}.items():
        _write(folder / "log" / "2022" / "03" / day / "a.gz", ids)
    (folder / "log" / "2022" / "03" / "03").mkdir()
    _write(folder / "log" / "2022" / "03" / "04" / "23" / "a.gz", [23])
    return folder


@pytest.mark.parametrize(
    "end, length, missing, expected",
    [
        ("2022/03/02", 2, 0, [1, 2]),
        ("2022/03/04", 3, 1, [2, 4]),
        ("2022/03/04/23", 1, 0, [23]),
        ("2022/03/05/00", 3, 2, [23]),
    ],
    ids=["days", "an empty day tolerated", "hour", "hours over midnight"],
)
def test_dated_folders(dated, end, length, missing, expected):
    folders = DatedFolders(
        root=str(dated / "log"), end=end, length=length, missing=missing
    )
    records = _records(dated, dated_folders=folders)
    batches = _ids(read_batches(records, ["like"], Mode.EVALUATE, 9))
    assert sorted(_flat(batches)) == expected


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _corrupt(path):
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[len(data) // 2] ^= 255
    path.write_bytes(gzip.compress(bytes(data)))


@pytest.mark.parametrize("damage", [_cut, _corrupt], ids=["cut off", "corrupt"])
def test_damaged_files_are_errors_or_told_and_left(folder, capfd, damage):
    damage(folder / "part-1.gz")
    records = _records(folder)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"part-1.gz: damaged after \d+ rec"
    ):
        _ids(read_batches(records, ["like"], Mode.EVALUATE, 8))
    lenient = _records(folder, ignore_data_errors=True)
    ids = _flat(_ids(read_batches(lenient, ["like"], Mode.EVALUATE, 8)))
    assert 20 <= len(ids) < 30
    assert set(ids) >= {*range(10), *range(20, 30)}
    assert "part-1.gz: damaged after" in capfd.readouterr().err


def test_a_batch_that_cannot_be_parsed_is_told_and_left(folder, capfd):
    with tf.io.TFRecordWriter(str(folder / "part-1.gz"), "GZIP") as file:
        file.write(_example(id=[1], numbers=[1.0, 2.0, 3.0]))
    lenient = _records(folder, ignore_data_errors=True, parallel_reads=1)
    batches = _ids(read_batches(lenient, ["like"], Mode.EVALUATE, 10))
    assert len(_flat(batches)) == 11
    assert "a batch that cannot be parsed was left out" in capfd.readouterr().err


def test_joined_gzip_files_are_whole(folder):
    first, second = folder / "part-0.gz", folder / "part-1.gz"
    first.write_bytes(first.read_bytes() + second.read_bytes())
    records = _records(folder, files=str(first))
    ids = _flat(_ids(read_batches(records, ["like"], Mode.EVALUATE, 8)))
    assert sorted(ids) == list(range(20))


def test_labels_other_than_0_and_1(folder):
    with tf.io.TFRecordWriter(str(folder / "part-1.gz"), "GZIP") as file:
        file.write(_example(id=[1], like=[2]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither 0 nor 1"):
        _ids(read_batches(_records(folder), ["like"], Mode.EVALUATE, 8))


def test_reading_through_a_data_service(folder):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    worker = service.WorkerServer(
        service.WorkerConfig(dispatcher.target.split("://")[1])
    )
    records = _records(folder, data_service=dispatcher.target)
    batches = _ids(read_batches(records, ["like"], Mode.EVALUATE, 8))
    assert sorted(_flat(batches)) == list(range(30))
    del worker


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"files": "nowhere/*.gz"}, "Records.files = 'nowhere/.*' matches no file"),
        ({"files": "s3://bucket/*.gz"}, r"no file system for s3:.*recap-tf\[io\]"),
        ({"files": None}, "exactly one of files and dated_folders"),
        ({"schema": "gone.json"}, "schema file gone.json does not exist"),
        (
            {"features": {"nombers": "x"}},
            "'nombers' is not in the schema .*schema.json",
        ),
        ({"shuffle_size": 0}, "Records.shuffle_size"),
        ({"sampling_rates": {"like": (1.0, 0.0)}}, r"sampling_rates\['like'\] must be"),
        ({"masked_mantissa_bits": {"x": 32}}, r"masked_mantissa_bits\['x'\] must be"),
    ],
    ids=["glob", "s3", "neither", "schema", "feature", "shuffle", "rates", "bits"],
)
def test_bad_settings(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        read_batches(_records(folder, **settings), ["like"], Mode.TRAIN, 4)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"length": 3},
            "1 of 3 days below .* missing or empty, 0 tolerated.*2022/03/03",
        ),
        ({"length": 0}, "DatedFolders.length must be at least 1"),
        ({"missing": -1}, "DatedFolders.missing must be at least 0. Received: -1"),
        (
            {"end": "2021/03/04", "length": 2, "missing": 2},
            "all of the 2 folders below .* are missing or empty. The last.*2021/03/04",
        ),
        ({"end": "2022-03-04"}, "DatedFolders.end must be YYYY/MM/DD"),
        ({"end": "2022/13/01"}, "Received: '2022/13/01'"),
    ],
    ids=["missing", "length", "negative", "all missing", "form", "month"],
)
def test_bad_dated_folders(dated, settings, message):
    settings = {"end": "2022/03/04", "length": 1} | settings
    with pytest.raises(ValueError, match=message):
        DatedFolders(root=str(dated / "log"), **settings).paths()


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not a schema"),
        ('{"schema": [{"feature_name": "x"}]}', "is not a schema.*KeyError: 'dtype'"),
        (
            '{"schema": [{"feature_name": "x", "dtype": "float", "length": 1}]}',
            "dtype of feature 'x' must be one of",
        ),
        (
            '{"schema": [{"feature_name": "x", "dtype": "int64_list", "length": 0}]}',
            "length of feature 'x' must be at least 1, or -1",
        ),
    ],
    ids=["json", "key", "dtype", "length"],
)
def test_bad_schemas(tmp_path, text, message):
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_schema(str(tmp_path / "schema.json"))
