"""The direction of imports, and that every config loads."""

import ast
import pathlib

import pytest

from recap_tf import settings
from recap_tf.core.config import gin_config
from twhin_tf import settings as twhin_settings

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = {
    "train",
    "evaluate",
    "calibrate",
    "export",
    "synthetic",
    "convert",
    "engagement_edges",
    "join_vectors",
    "inspect",
}
TWHIN_COMMANDS = {"vocabulary", "synthetic", "train", "evaluate", "export"}
# No module imports one of a later group.
TWHIN_ORDER = [
    ["graph", "hashing", "edge_buckets", "partition_order"],
    ["entities", "entity_counts", "edge_files", "raw_edges", "graph_config"],
    ["raw_types", "raw_splits", "community_model"],
    ["raw_parts"],
    ["conversion", "synthetic_graph", "packing"],
    ["edges", "partitions"],
    ["grouped_product", "node_tables", "partitioned_edges"],
    ["partition_files"],
    ["partition_buffer"],
    ["operators", "comparators", "negatives", "losses"],
    ["warm_start", "lookups"],
    ["model"],
    ["disk_tables"],
    ["known_edges", "neighbours", "product_quantization", "vectors"],
    ["query_groups", "inverted_file", "projector", "plot"],
    ["link_prediction"],
    ["popularity", "retrieval"],
    ["evaluation", "exporting"],
    ["settings"],
    ["building", "training_step", "tpu_step"],
    ["partitioned_checkpoints"],
    ["trained"],
    ["old_vectors"],
    ["training"],
    ["partitioned_training", "cluster_training", "tpu_training"],
    ["after_training"],
]
ORDER = [
    ["schema", "record_writer"],
    ["labels", "record_files", "preprocess"],
    ["input", "record_checks"],
    ["serving_inputs", "warmup_requests"],
    ["fields"],
    [
        "features",
        "mlp",
        "mask_net",
        "embeddings",
        "dcn",
        "dlrm",
        "mmoe",
        "position_debias",
    ],
    ["ple", "large_embeddings"],
    ["score", "calibrators", "vector_join"],
    ["model"],
    ["pointwise_loss", "pairwise_loss", "task_balancing"],
    ["grad_norm", "pcgrad"],
    ["metric_choice", "slices"],
    ["losses", "validation_sets", "evaluation_report"],
    ["evaluation_input", "measurements", "evaluation_log", "best_checkpoint"],
    ["evaluation", "calibration_report"],
    ["calibration", "continuous_evaluation"],
    ["early_stopping"],
    ["settings", "training_step", "training_input"],
    ["building"],
    ["training", "serving_signatures", "serving_variants"],
    ["serving_model", "variant_comparison"],
]


def _imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _modules(folder: str) -> list[pathlib.Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_core_imports_nothing_of_the_packages():
    for path in _modules("recap_tf/core"):
        for name in _imports(path):
            outside = name.startswith(("recap_tf", "twhin_tf", "serving"))
            assert not outside or name.startswith("recap_tf.core"), (path, name)
            assert name != "recap_tf", path


def test_the_packages_do_not_import_each_other():
    for path in _modules("twhin_tf"):
        for name in _imports(path):
            assert not name.startswith("serving")
            assert not name.startswith("recap_tf.") or name.startswith("recap_tf.core")
    for path in _modules("serving"):
        assert not any(n.startswith(("recap_tf", "twhin_tf")) for n in _imports(path))
    for path in _modules("recap_tf"):
        assert not any(n.startswith(("twhin_tf", "serving.")) for n in _imports(path))


def test_nothing_imports_a_command():
    for package, commands in (("recap_tf", COMMANDS), ("twhin_tf", TWHIN_COMMANDS)):
        for path in _modules(package):
            for command in commands:
                assert f"{package}.{command}" not in _imports(path), (path, command)


@pytest.mark.parametrize(
    "package, order", [("recap_tf", ORDER), ("twhin_tf", TWHIN_ORDER)]
)
def test_imports_go_one_way(package, order):
    group = {name: i for i, names in enumerate(order) for name in names}
    for name, own in group.items():
        path = ROOT / package / f"{name}.py"
        assert path.exists()
        for other, theirs in group.items():
            if theirs > own:
                assert f"{package}.{other}" not in _imports(path), (name, other)


@pytest.mark.parametrize(
    "name", sorted(p.name for p in (ROOT / "configs").glob("*.gin"))
)
def test_every_config_loads(name):
    own = twhin_settings if name.startswith("twhin") else settings
    gin_config.load(str(ROOT / "configs" / name), roots=own.ROOTS)
    assert gin_config.operative()


def test_the_production_config_is_short():
    lines = (ROOT / "configs" / "recap.gin").read_text().splitlines()
    assert len(lines) <= 140
