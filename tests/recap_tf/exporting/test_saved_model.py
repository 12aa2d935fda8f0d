"""Exports as servers and callers see them: signatures, warm-up requests, variants."""

import dataclasses
import json
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from recap_tf import export, settings, train
from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from recap_tf.core.training import checkpoints
from recap_tf.data import record_batches
from recap_tf.data.record_batches import Mode, read_batches
from recap_tf.data.record_writer import (
    open_record_files,
    part_paths,
    serialize_examples,
)
from recap_tf.data.schema import Feature, write_schema
from recap_tf.exporting import variants
from recap_tf.training.building import build_model
from serving.api.warmup import warm_up
from serving.fronts.flags import Flags
from serving.memory_limits import MemoryLimits
from serving.model_server import Server
from serving.models.saved_model import load_saved_model
from serving.models.version_files import VersionFiles

LIMITS = MemoryLimits(tensor_bytes=1 << 20, memory_bytes=1 << 20)
CONFIG = """
recap.ranker.tasks = ["click", "like"]
recap.ranker.score_weights = {"click": 1.0, "like": -3.0}
recap.ranker.train_data = @train/Records()
recap.ranker.validation_sets = [@held_out/ValidationSet()]
held_out/ValidationSet.name = "held_out"
held_out/ValidationSet.records = @held_out/Records()
Records.schema = "{here}/schema.json"
Records.features = {
    "x": "continuous", "user": "user_embedding", "author": "author_embedding",
    "watched": "watched",
}
train/Records.files = "{here}/train/*.gz"
held_out/Records.files = "{here}/held_out/*.gz"

recap.ranker.model = @RankingModel
RankingModel.preprocessor = @DoubleNormLog
DoubleNormLog.layer_norm_epsilon = 1e-5
RankingModel.backbone = @MaskNet
RankingModel.tower = @tower/MLP
MaskNet.blocks = [@MaskBlock]
MaskNet.mlp = @backbone/MLP
MaskBlock.output_size = 16
MaskBlock.aggregation_size = 8
backbone/MLP.layer_sizes = [16]
tower/MLP.layer_sizes = [8, 1]
tower/MLP.batch_norm = {"momentum": 0.9, "affine": True}

recap.ranker.optimizer = @grouped_optimizer
grouped_optimizer.learning_rates = 0.02
recap.train.batch_size = 64
recap.train.steps = 25
recap.train.log_every = 25
recap.train.evaluate_every = None
recap.train.save_dir = "{here}/run"
recap.evaluate.steps = -1
recap.export.folder = "{here}/models"
recap.export.viewer_features = ["user_embedding", "watched"]
recap.export.viewer_columns = {"continuous": [(0, 1), (2, 4)]}
recap.export.warmup_sizes = {
    "rank": [1, 500], "serving_default": [3], "serve_examples": [3], "score": [2],
    "score_examples": [2], "classify": [2], "regress": [4],
}
"""
TABLES = """
RankingModel.large_embeddings = @LargeEmbeddings
LargeEmbeddings.tables = [@TableSpec()]
TableSpec.name = "videos"
TableSpec.rows = 32
TableSpec.dim = 4
TableSpec.features = ["watched"]
"""


def _examples(count: int, seed: int) -> list[bytes]:
    random = np.random.default_rng(seed)
    # Small, so that an epsilon of layer norms tells.
    x, user, author = (random.normal(0, s, (count, 6)) for s in (1.0, 0.02, 0.02))
    odds = x[:, 1] + x[:, 4] + 40 * user[:, 0]
    examples = {
        "x": x.astype(np.float32),
        "user": user.astype(np.float32),
        "author": author.astype(np.float32),
        "watched": [random.integers(0, 32, n) for n in random.integers(0, 4, count)],
        "click": (odds > random.normal(size=count))[:, np.newaxis].astype(np.int64),
        "like": (x[:, 5] > random.normal(size=count))[:, np.newaxis].astype(np.int64),
    }
    return serialize_examples(examples)


@pytest.fixture(autouse=True)
def plain_precision():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with ranker.gin, a run and its export, models/1."""
    here = tmp_path_factory.mktemp("ranker")
    features = [Feature(name, "float_list", 6) for name in ("x", "user", "author")]
    features += [Feature(name, "int64_list", 1) for name in ("click", "like")]
    features += [Feature("watched", "int64_list", -1)]
    write_schema(str(here / "schema.json"), features)
    for name, count, seed in (("train", 300, 1), ("held_out", 400, 2)):
        with open_record_files(part_paths(str(here / name), 1)) as output:
            output.write(_examples(count, seed))
    (here / "ranker.gin").write_text(CONFIG.replace("{here}", str(here)))
    train.main(["--config", str(here / "ranker.gin")])
    return here


@pytest.fixture(scope="module")
def exported(trained):
    return tf.saved_model.load(str(trained / "models" / "1"))


def _candidates(count: int) -> tuple[dict, dict]:
    """(inputs of `rank`, the same as full rows of `serving_default`)."""
    random = np.random.default_rng(count)
    x, author = random.normal(size=(2, count, 6)).astype(np.float32)
    user, viewer = np.float32([[0.01, 0.03, 0, 0, -0.02, 0]]), [0, 2, 3]
    x[:, viewer] = x[0, viewer]
    shared = {"author_embedding": author}
    lists = {"watched": np.array([[4, 9, 1]]), "watched_length": np.array([2])}
    once = {"user_embedding": user} | lists
    rank = shared | once | {"continuous": x[:, [1, 4, 5]]}
    rank |= {"continuous_viewer": x[:1, viewer]}
    rows = {name: np.repeat(value, count, axis=0) for name, value in once.items()}
    return _tensors(rank), _tensors(shared | rows | {"continuous": x})


def _tensors(values: dict) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in values.items()}


@pytest.mark.parametrize("count", [1, 2, 77])
def test_rank_scores_bit_for_bit_like_repeated_rows(exported, count):
    inputs, rows = _candidates(count)
    weights = np.float32([[0.25, 2.0]])
    ranked = exported.signatures["rank"](
        **inputs, task_weights=tf.constant([[1.0, -3.0]])
    )
    plain = exported.signatures["serving_default"](**rows)
    for name in ("score", "calibrated_probabilities"):
        np.testing.assert_array_equal(ranked[name], plain[name])
    order = np.argsort(-plain["score"].numpy(), kind="stable")
    assert ranked["order"].numpy().tolist() == order.tolist()
    own = exported.signatures["rank"](**inputs, task_weights=tf.constant(weights))
    expected = exported.signatures["score"](
        **rows, task_weights=tf.constant(np.repeat(weights, count, axis=0))
    )
    np.testing.assert_array_equal(own["score"], expected["score"])
    assert count < 3 or own["order"].numpy().tolist() != order.tolist()


def test_equal_candidates_stay_as_they_came(exported):
    inputs, _ = _candidates(40)
    ranked = exported.signatures["rank"](**inputs, task_weights=tf.zeros([1, 2]))
    assert ranked["order"].numpy().tolist() == list(range(40))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def channel(trained):
    """To our server, which serves the export with batching."""
    server = Server(
        Flags(
            port=_free_port(),
            model_name="ranker",
            model_base_path=str(trained / "models"),
            enable_batching=True,
            max_num_load_retries=0,
        )
    )
    server.start()
    with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
        yield channel
    server.stop()


def test_the_server_warms_up_and_ranks_with_the_model_s_weights(channel, exported):
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "ranker"
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    (found,) = stub.GetModelStatus(status).model_version_status
    assert found.state == 30, found.status.error_message
    inputs, rows = _candidates(9)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "ranker", "rank"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    answer = stub.Predict(request).outputs
    plain = exported.signatures["serving_default"](**rows)["score"].numpy()
    np.testing.assert_allclose(tf.make_ndarray(answer["score"]), plain, rtol=1e-5)
    order = np.argsort(-plain, kind="stable").tolist()
    assert tf.make_ndarray(answer["order"]).tolist() == order


def test_classify_and_regress_alone_and_together(channel, exported):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    examples = _examples(5, seed=3)
    expected = exported.signatures["serve_examples"](examples=tf.constant(examples))
    classify = classification_pb2.ClassificationRequest()
    regress = regression_pb2.RegressionRequest()
    both = inference_pb2.MultiInferenceRequest()
    for one in (classify, regress, both):
        for example in examples:
            one.input.example_list.examples.add().MergeFromString(example)
    for kind, one in (("classify", classify), ("regress", regress)):
        one.model_spec.name, one.model_spec.signature_name = "ranker", kind
        task = both.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.CopyFrom(one.model_spec)
    classes = stub.Classify(classify).result
    assert [c.label for c in classes.classifications[4].classes] == ["click", "like"]
    np.testing.assert_allclose(
        [[c.score for c in row.classes] for row in classes.classifications],
        expected["calibrated_probabilities"],
        rtol=1e-5,
    )
    values = stub.Regress(regress).result
    found = [one.value for one in values.regressions]
    np.testing.assert_allclose(found, expected["score"], rtol=1e-4)
    first, second = stub.MultiInference(both).results
    assert len(first.classification_result.classifications) == 5
    assert [v.value for v in second.regression_result.regressions] == pytest.approx(
        found, rel=1e-5
    )


def test_warm_up_requests_have_the_sizes_that_were_asked_for(trained):
    version = trained / "models" / "1"
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(one.numpy())
        for one in tf.data.TFRecordDataset(str(path))
    ]
    # More candidates than the 300 records: these are taken again.
    first, second = (log.predict_log.request for log in logs[:2])
    assert first.model_spec.signature_name == "rank"
    assert first.model_spec.name == "models"
    for request, count in ((first, 1), (second, 500)):
        shapes = {
            name: tf.make_ndarray(value).shape for name, value in request.inputs.items()
        }
        assert shapes["continuous"] == (count, 3)
        assert shapes["continuous_viewer"] == (1, 3)
        assert shapes["watched_length"] == (1,)
    x = tf.make_ndarray(second.inputs["continuous"])
    assert np.ptp(x[:300, 0]) > 1
    np.testing.assert_array_equal(x[:200], x[300:])
    assert len(logs[2].predict_log.request.inputs["watched"].tensor_shape.dim) == 2
    kinds = [log.WhichOneof("log_type") for log in logs]
    assert kinds == ["predict_log"] * 6 + ["classify_log", "regress_log"]
    model = load_saved_model(VersionFiles(str(version)))
    assert warm_up(model, iterations=1, limits=LIMITS) == len(logs) == 8
    model.close()


def test_the_export_says_which_inputs_are_the_viewer_s(trained):
    path = trained / "models" / "1" / "assets.extra" / "ranker.json"
    described = json.loads(path.read_text())
    assert described["viewer_features"] == ["user_embedding", "watched"]
    assert described["viewer_columns"] == {"continuous": [[0, 1], [2, 4]]}
    assert described["variant"] is None


def _export(trained, out, *more: str) -> dict:
    """What `recap_tf.export` writes down of its export, out/1."""
    arguments = ["--config", str(trained / "ranker.gin"), "--out", str(out)]
    export.main([*arguments, "--checkpoint", str(trained / "run"), *more])
    return json.loads((out / "1" / "assets.extra" / "ranker.json").read_text())


@pytest.mark.parametrize(
    "variant, least, most", [("frozen", 0.0, 1e-4), ("bfloat16", 1e-3, 0.2)]
)
def test_a_variant_says_what_it_changes(
    trained, exported, tmp_path, capsys, variant, least, most
):
    described = _export(trained, tmp_path, "--variant", variant)["variant"]
    assert described["name"] == variant and described["trained_in"] == "float32"
    said = capsys.readouterr().out
    assert f"{variant} against the model as trained, in float32" in said
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    held_out = described["changes"]["held_out"]
    assert set(held_out) == {"click", "like", "score"}
    examples = tf.constant(_examples(400, seed=2))  # As the validation set.
    ours, theirs = (
        one.signatures["serve_examples"](examples=examples)
        for one in (loaded, exported)
    )
    for task, change in held_out.items():
        if task == "score":
            before, after = theirs["score"], ours["score"]
        else:
            column = ["click", "like"].index(task)
            before, after = (
                one["calibrated_probabilities"][:, column] for one in (theirs, ours)
            )
        found = np.abs(after - before)
        spread = float(np.std(before))
        assert least <= found.max() / spread <= most
        for key, value in {
            "largest_change": found.max(),
            "mean_change": found.mean(),
            "spread": spread,
        }.items():
            assert change[key] == pytest.approx(value, abs=2e-4 * spread, rel=0.05)
        assert abs(change["auroc"] - change["auroc_before"]) <= most
    assert held_out["click"]["auroc_before"] > 0.6
    assert f"{held_out['click']['auroc_before']:.4f}" in said
    kinds = {v.dtype for v in loaded.variables_of_model}
    if variant == "frozen":
        assert not kinds
    else:
        assert kinds == {tf.float32, tf.bfloat16}


def _ranker(trained, tmp_path, more: str = "") -> settings.Ranker:
    path = tmp_path / "ranker.gin"
    path.write_text((trained / "ranker.gin").read_text() + more)
    gin_config.load(str(path), roots=settings.ROOTS)
    return settings.Ranker()


@pytest.mark.parametrize("more", ["", TABLES], ids=["plain", "large tables"])
def test_the_bfloat16_variant_computes_what_training_in_bfloat16_does(
    trained, tmp_path, more
):
    ranker = _ranker(trained, tmp_path, more)
    model = build_model(ranker)
    mixed = build_model(dataclasses.replace(ranker, precision="bfloat16"))
    keras.mixed_precision.set_global_policy("float32")
    for own, theirs in zip(mixed.variables, model.variables, strict=True):
        own.assign(theirs)
    variant = variants.make_variant("bfloat16", ranker, model)
    assert keras.mixed_precision.global_policy().name == "float32"
    data = read_batches(ranker.train_data, ranker.tasks, Mode.INFERENCE, 32)
    features = next(iter(data))
    logits = [m(features, training=False)["logits"] for m in (variant, mixed, model)]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 1e-4
    kernels = [v for v in variant.variables if "kernel" in v.name]
    assert kernels and {v.dtype for v in kernels} == {tf.bfloat16}


def test_a_graph_cannot_hold_large_tables(trained, tmp_path):
    ranker = _ranker(trained, tmp_path, TABLES)
    with pytest.raises(UserError, match="--variant frozen cannot hold"):
        variants.make_variant("frozen", ranker, build_model(ranker))


def test_a_graph_cannot_hold_more_than_a_protobuf(trained, tmp_path, monkeypatch):
    ranker = _ranker(trained, tmp_path)
    monkeypatch.setattr(variants, "_MOST_BYTES", 1 << 10)
    with pytest.raises(
        UserError, match=r"takes models of at most 0 MiB.*Received: 0 M"
    ):
        variants.make_variant("frozen", ranker, build_model(ranker))


def test_nothing_is_measured_without_a_validation_set(trained, tmp_path, capsys):
    ranker = dataclasses.replace(_ranker(trained, tmp_path), validation_sets=())
    model = build_model(ranker)
    described = export._compared("bfloat16", ranker, model, model)
    assert described["changes"] is None
    assert "not measured, recap.ranker.validation_sets is" in capsys.readouterr().out


@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
def test_a_frozen_ranker_keeps_the_epsilon_of_its_layer_norms(
    trained, tmp_path, epsilon
):
    setting = f"epsilon = {epsilon}\n"
    text = (trained / "ranker.gin").read_text().replace("epsilon = 1e-5\n", setting)
    (tmp_path / "ranker.gin").write_text(text)
    gin_config.load(str(tmp_path / "ranker.gin"), roots=settings.ROOTS)
    ranker = settings.Ranker()
    model = build_model(ranker)
    checkpoints.restore_model(
        checkpoints.choose_checkpoint(str(trained / "run")), model
    )
    specs = record_batches.feature_specs(ranker.train_data)
    frozen = variants.FrozenRanker(model, specs)
    data = read_batches(ranker.train_data, ranker.tasks, Mode.INFERENCE, 64)
    features = next(iter(data))
    np.testing.assert_allclose(
        frozen(features)["logits"], model(features, training=False)["logits"], atol=1e-4
    )
    with pytest.raises(ValueError, match="cannot be trained"):
        frozen(features, training=True)


SIZES = "recap.export.warmup_sizes"


@pytest.mark.parametrize(
    "setting, message",
    [
        (f"{SIZES}={{'rnk': [1]}}", r"warmup_sizes names the signature 'rnk'.*'rank'?"),
        (f"{SIZES}={{'tasks': [1]}}", "names the signature 'tasks'; expected some of"),
        (
            f"{SIZES}={{'rank': []}}",
            r"warmup_sizes\['rank'\] must be at least one size",
        ),
        (f"{SIZES}={{'rank': [0]}}", r"warmup_sizes\['rank'\] must be at least 1. Rec"),
        (f"{SIZES}={{'rank': {[1] * 1001}}}", "at most 1000 requests.*Received: 1001"),
        ("recap.export.viewer_features=['usr']", "names the feature 'usr', which"),
    ],
)
def test_bad_settings_are_said_before_training(trained, setting, message):
    with pytest.raises(ValueError, match=message):
        train.main(["--config", str(trained / "ranker.gin"), "--set", setting])


def test_export_checks_the_same(trained, tmp_path):
    more = ["--set", f"{SIZES}={{'rnk': [1]}}"]
    with pytest.raises(UserError, match="warmup_sizes names the signature 'rnk'"):
        _export(trained, tmp_path, *more)
    assert not list(tmp_path.iterdir())


def test_without_score_weights_a_request_brings_them(trained, tmp_path):
    more = [
        "--set",
        "recap.ranker.score_weights={}",
        "--set",
        f"{SIZES}={{'rank':[2]}}",
    ]
    _export(trained, tmp_path, *more)
    model = load_saved_model(VersionFiles(str(tmp_path / "1")))
    assert "regress" not in model.signatures and "score" not in model.signatures
    assert not model.signatures["rank"].defaults
    assert warm_up(model, iterations=1, limits=LIMITS) == 1
    inputs, rows = _candidates(5)
    given = {name: value.numpy() for name, value in inputs.items()}
    given["task_weights"] = np.float32([[0, 1]])
    found = model.run(model.signatures["rank"], given, ["score"])["score"]
    given = {name: value.numpy() for name, value in rows.items()}
    default = model.signatures["serving_default"]
    outputs = model.run(default, given, ["calibrated_probabilities"])
    np.testing.assert_array_equal(found, outputs["calibrated_probabilities"][:, 1])
    model.close()


def test_one_task_without_weights_regresses_to_its_probability(trained, tmp_path):
    more = ["recap.ranker.score_weights={}", "recap.ranker.tasks=['like']"]
    ranker_gin = tmp_path / "ranker.gin"
    ranker_gin.write_text((trained / "ranker.gin").read_text())
    arguments = ["--config", str(ranker_gin)]
    for one in [
        *more,
        f"recap.export.folder='{tmp_path}/models'",
        f"recap.train.save_dir='{tmp_path}/run'",
        "recap.train.steps=1",
        f"{SIZES}={{}}",
    ]:
        arguments += ["--set", one]
    train.main(arguments)
    loaded = tf.saved_model.load(str(tmp_path / "models" / "1"))
    examples = tf.constant(_examples(3, seed=4))
    found = loaded.signatures["regress"](inputs=examples)["outputs"]
    scored = loaded.signatures["serve_examples"](examples=examples)
    expected = scored["calibrated_probabilities"][:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    version = tmp_path / "models" / "1" / "assets.extra"
    assert not (version / "tf_serving_warmup_requests").exists()
