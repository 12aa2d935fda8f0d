"""What a config file says, as one object per command.

twhin.embedder  what is trained: graph, vectors, operators, negatives, loss
twhin.train     how long, where to, how often things happen on the way
twhin.evaluate  how held-out edges are ranked
twhin.export    what trained vectors are handed on as
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import gin

# Imported for their names in configs.
from recap_tf.core.optimizers import learning_rate_schedules  # noqa: F401
from twhin_tf.evaluation import evaluator  # noqa: F401
from twhin_tf.exporting import export_folder  # noqa: F401
from twhin_tf.model import global_negatives  # noqa: F401

# isort: split
from recap_tf.core.checks import check_range
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
from recap_tf.core.training.strategy import StrategyName
from twhin_tf.graph.edge_batches import Edges
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.model.comparators import Dot
from twhin_tf.model.graph_embeddings import MaskKnown, Penalty
from twhin_tf.model.in_batch_negatives import InBatchNegatives
from twhin_tf.model.losses import EdgeLoss, LogisticLoss, SoftmaxLoss
from twhin_tf.model.negatives import Negatives
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.model.operators import Operator, Translation
from twhin_tf.model.warm_start import WarmStart
from twhin_tf.partitions.partition_layout import Partitions
from twhin_tf.synthesis.synthetic_graph import SyntheticGraph

ROOTS = ("twhin.embedder", "twhin.train", "twhin.evaluate", "twhin.export")


@gin.configurable("embedder", module="twhin")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedder:
    """What is trained, evaluated and exported.

    Args:
        graph: folder of graph.json.
        dim: numbers per vector, at least 1.
        operator: makes the relations' operators.
        operators: relation -> makes its operator, where it is another.
        comparator: of two vectors.
        table: how those of node types start and learn that `tables` does not name.
        tables: node type -> how its table does.
        relation_optimizer: of the operators' weights; one of the row optimizers.
        relation_learning_rate: a number or a schedule.
        relation_weights: relation -> what its edges count for in the loss; 1 where not
            listed. An inverse counts as what it is the inverse of.
        negatives: samplers of what edges are compared with.
        mask_known: leaves negatives out that are true: "batch", those that make an edge
            of the batch; "own", the edge itself only; "nothing".
        loss: of edges and negatives.
        dropout: share of the operators' outputs that training sets to 0, in [0, 1).
        penalty: of the vectors' sizes.
        synthetic: makes `graph` up before it is trained on; None for a graph that is
            there.
    """

    graph: str
    dim: int
    operator: Callable[..., Operator] = Translation
    operators: Mapping[str, Callable[..., Operator]] = dataclasses.field(
        default_factory=dict
    )
    comparator: Dot = dataclasses.field(default_factory=Dot)
    table: NodeTable = dataclasses.field(default_factory=NodeTable)
    tables: Mapping[str, NodeTable] = dataclasses.field(default_factory=dict)
    relation_optimizer: Callable[..., Optimizer] = SparseAdagrad
    relation_learning_rate: float | Schedule = 0.1
    relation_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    negatives: Sequence[Negatives] = (InBatchNegatives(),)
    mask_known: MaskKnown = "batch"
    loss: EdgeLoss = dataclasses.field(default_factory=LogisticLoss)
    dropout: float = 0.0
    penalty: Penalty | None = None
    synthetic: SyntheticGraph | None = None

    def __post_init__(self):
        check_range("twhin.embedder.dim", self.dim, at_least=1)
        check_range("twhin.embedder.dropout", self.dropout, at_least=0, below=1)
        if not self.negatives:
            raise ValueError("twhin.embedder.negatives must hold a sampler.")
        for name, weight in self.relation_weights.items():
            setting = f"twhin.embedder.relation_weights[{name!r}]"
            check_range(setting, weight, at_least=0)
        for negatives in self.negatives:
            self._check_fits(negatives)

    def _check_fits(self, negatives: Negatives) -> None:
        if isinstance(negatives, AllNodes) and not self.loss.takes_all_nodes:
            raise ValueError(
                "twhin.embedder.negatives: AllNodes needs twhin.embedder.loss = "
                f"@{SoftmaxLoss.__name__}(). Received: {type(self.loss).__name__}"
            )
        shared = not isinstance(negatives, InBatchNegatives)
        if shared and negatives.sides != "rhs" and not self.comparator.splits_adjoint:
            kind = type(negatives).__name__
            raise ValueError(
                f"{kind}.sides must be 'rhs' with the comparator "
                f"{type(self.comparator).__name__}, which needs left-hand sides "
                "transformed by each relation; inverse relations stand in for them. "
                f"Received: {negatives.sides!r}"
            )


@gin.configurable("train", module="twhin")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a model is trained.

    Args:
        save_dir: checkpoints and logs; a run goes on from what it finds there.
        batch_size: edges per batch, over all replicas.
        steps: updates, counted from the first start; training ends after them.
        edges: which edges are trained on.
        checkpoint_every: steps between checkpoints; one more is made at the end.
        checkpoints_to_keep: the newest so many; None for all.
        log_every: steps between entries in the logs.
        partitions: keeps node tables on disk, for those larger than memory; None keeps
            them in memory.
        warm_start: what a new run starts from; None for initializers.
        strategy: "one_device"; "mirrored"; "multi_worker"; "tpu"; "parameter_server",
            whose node tables are cut over the parameter servers that TF_CONFIG lists,
            and whose workers take a batch each.
        tpu: name or address of the TPU.
        compile: compile loss and gradients with XLA; slower on CPUs.
        seed: of the initial vectors, of negatives and of the order of edges.
        deterministic: the same run gives the same bits, also if it was interrupted;
            slower on some devices.
    """

    save_dir: str
    batch_size: int
    steps: int
    edges: Edges = dataclasses.field(default_factory=Edges)
    checkpoint_every: int = 10_000
    checkpoints_to_keep: int | None = 3
    log_every: int = 1000
    partitions: Partitions | None = None
    warm_start: WarmStart | None = None
    strategy: Literal[StrategyName, "parameter_server"] = "one_device"
    tpu: str = ""
    compile: bool = False
    seed: int = 0
    deterministic: bool = True

    def __post_init__(self):
        for name in ("batch_size", "steps", "checkpoint_every", "log_every"):
            check_range(f"twhin.train.{name}", getattr(self, name), at_least=1)
        check_range("twhin.train.seed", self.seed, at_least=0)
        check_range(
            "twhin.train.checkpoints_to_keep",
            self.checkpoints_to_keep,
            at_least=1,
            none="all",
        )
