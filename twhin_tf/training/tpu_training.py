"""Trains graph embeddings whose node tables are in the embedding cores of a TPU.

The host has what one device would train: the model, optimizers, checkpoints. The TPU
has a second set of tables and operators, takes the host's values when it starts, and
gives its own back for every checkpoint. So a checkpoint is like any other: another
strategy goes on from it, and so does a TPU from those of others.
"""

import dataclasses
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.embeddings.tpu_transfer import TpuTransfer
from recap_tf.core.optimizers.grouped import GroupedOptimizer, Optimizer
from recap_tf.core.training.checkpoints import Checkpoints
from recap_tf.core.training.run import RunParts, SavedBeside
from recap_tf.core.training.shard import Shard
from recap_tf.core.training.strategy import make_strategy, per_replica_batch_size
from twhin_tf.graph.edge_batches import read_edge_batches
from twhin_tf.graph.graph import Graph, read_graph
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.model.lookups import Lookups, look_ahead
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.building import create_graph_embeddings
from twhin_tf.training.model_in_training import ModelInTraining
from twhin_tf.training.tpu_step import TpuTrainingStep

_FOLDER = "embedding_cores"

Groups = Mapping[str, tuple[Optimizer, list[tf.Variable]]]


class TpuTraining(RunParts):
    """Training with `twhin.train.strategy = "tpu"`.

    Args:
        embedder: what to train.
        settings: how.
        eager: refused; TPUs run graphs only.

    Attributes:
        model: the vectors of the last checkpoint, on the host.
    """

    def __init__(self, embedder: Embedder, settings: TrainSettings, eager: bool):
        _check(embedder, settings, eager)
        self._settings = settings
        self._tpu = connect(settings.tpu)
        batch_size = per_replica_batch_size(settings.batch_size, self._tpu)
        host = ModelInTraining(embedder, settings, make_strategy("one_device"))
        self._host, self.model, self.step = host, host.model, host.step
        self.optimizer = host.optimizer
        self.checkpoints = Checkpoints(
            settings.save_dir, host.model, host.state, settings.checkpoints_to_keep
        )
        # Of the host's model: its layout is the device's.
        self._lookups = Lookups(host.model.node_tables, host.objective.samplers)
        with self._tpu.scope():
            tables = make_tables(embedder, host.graph, self._lookups, batch_size)
            device = create_graph_embeddings(
                embedder, host.graph, host.model.node_tables
            )
            groups = tables.optimizers()
            if (relations := device.parameter_groups().get("relations")) is not None:
                groups["relations"] = relations
            optimizer = GroupedOptimizer(groups)
            optimizer.create_slots()
        self._transfer = TpuTransfer(tables, posixpath.join(settings.save_dir, _FOLDER))
        self._on_host = {
            name: (host.groups[f"table/{name}"][0], host.model.tables[name])
            for name in tables.tables
        }
        self._relations = list(
            zip(
                _of_relations(host.model, host.groups),
                _of_relations(device, groups),
                strict=True,
            )
        )
        self._counters = [each.iterations for each in optimizer.optimizers]
        self.train_step = TpuTrainingStep(
            host.objective.of(device),
            self._lookups,
            tables,
            device.operators.trainable_weights,
            optimizer,
            host.step,
            self._tpu,
        )

    def restore(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._host.check_goes_on_from(path)
        self.checkpoints.restore(path)

    def start_afresh(self) -> None:
        self._host.warm_start()

    def start_input(self, resumed: str | None) -> Iterator:
        self._transfer.send(self._on_host)
        for host, device in self._relations:
            device.assign(host)
        for counter in self._counters:
            counter.assign(self.step)
        # The position is not saved: a resumed run shuffles anew, lest it see the first
        # edges again in the same order.
        return self._inquiries(self._settings.seed + self._host.done)

    def _inquiries(self, seed: int) -> Iterator:
        settings, done = self._settings, self._host.done

        def read(context: tf.distribute.InputContext) -> tf.data.Dataset:
            shard = Shard(context.input_pipeline_id, context.num_input_pipelines)
            size = context.get_per_replica_batch_size(settings.batch_size)
            edges = read_edge_batches(
                settings.edges, self._host.graph, size, seed=seed, shard=shard
            )
            first = done * context.num_replicas_in_sync // shard.count
            return look_ahead(edges, self._lookups, settings.seed, first, shard)

        # The embedding cores take their input from the host.
        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
        return iter(self._tpu.distribute_datasets_from_function(read, options))

    def numbers(self, steps_per_second: float) -> Mapping[str, float]:
        return self._host.speeds(steps_per_second)

    def before_save(self, step: int) -> SavedBeside:
        self._transfer.fetch(self._on_host)
        for host, device in self._relations:
            host.assign(device)
        for optimizer in self.optimizer.optimizers:
            optimizer.iterations.assign(self.step)
        return SavedBeside(metadata=self._host.metadata)


def connect(tpu: str) -> tf.distribute.TPUStrategy:
    """The strategy of the TPU of that name.

    Raises:
        ValueError: none answers.
        UserError: it looks embeddings up in another way.
    """
    strategy = make_strategy("tpu", tpu)
    kinds = tf.tpu.experimental.HardwareFeature.EmbeddingFeature
    feature = strategy.extended.tpu_hardware_feature.embedding_feature
    if feature != kinds.V1:
        raise UserError(
            "twhin.train.tpu must have embedding cores as TPU v2, v3 and v4 have them. "
            f"Received: {tpu!r}, whose embedding feature is {feature.value}"
        )
    return strategy


def make_tables(
    embedder: Embedder, graph: Graph, lookups: Lookups, batch_size: int
) -> EmbeddingTables:
    """The node tables as a layer; under a TPUStrategy, in the embedding cores.

    Args:
        embedder: the settings.
        graph: whose types they are of; those without a relation have none.
        lookups: what is going to be looked up in them.
        batch_size: edges per replica.
    """
    specs = [
        dataclasses.replace(spec, features=lookups.features[name])
        for name, spec in _specs(embedder, graph).items()
        if lookups.features[name]
    ]
    tables = EmbeddingTables(specs, lookups.sizes(batch_size))
    tables.build(None)
    return tables


def _specs(embedder: Embedder, graph: Graph) -> dict[str, TableSpec]:
    return {
        name: embedder.tables.get(name, embedder.table).spec(name, rows, embedder.dim)
        for name, rows in graph.rows.items()
    }


def _of_relations(model: GraphEmbeddings, groups: Groups) -> list[tf.Variable]:
    """The operators' weights and what their optimizer knows of them."""
    if "relations" not in groups:
        return []
    return [*model.operators.weights, *groups["relations"][0].variables()]


def _check(embedder: Embedder, settings: TrainSettings, eager: bool) -> None:
    """Refuses what TPUs cannot do.

    Raises:
        UserError: a setting is one of those.
    """
    with_tpu = "with twhin.train.strategy = 'tpu'"
    if eager:
        raise UserError(f"--debug cannot be used {with_tpu}, which runs graphs only.")
    if settings.compile:
        raise UserError(
            f"twhin.train.compile must be False {with_tpu}, which always compiles. "
            f"Received: {settings.compile}"
        )
    if settings.warm_start is not None and settings.warm_start.drift:
        raise UserError(
            f"WarmStart.drift must be 0 {with_tpu}, which does not look up old vectors."
            f" Received: {settings.warm_start.drift}"
        )
    for sampler in embedder.negatives:
        if isinstance(sampler, AllNodes):
            raise UserError(
                f"twhin.embedder.negatives cannot be all nodes {with_tpu}, which looks "
                f"up single rows. Received: {type(sampler).__name__}"
            )
    graph = read_graph(embedder.graph)
    for name, spec in _specs(embedder, graph).items():
        storage = embedder.tables.get(name, embedder.table).storage
        if storage != "float32":
            raise UserError(
                f"NodeTable.storage of type {name!r} must be 'float32' {with_tpu}. "
                f"Received: {storage!r}"
            )
        try:
            spec.make_optimizer().as_tpu(0.1)
        except ValueError as error:
            raise UserError(f"NodeTable.optimizer of type {name!r}: {error}") from error
