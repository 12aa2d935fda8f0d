"""What was evaluated: the model's parts, the checkpoint, the settings."""

from collections.abc import Mapping

from recap_tf.model.ranking_model import RankingModel
from recap_tf.report.markup import Markup, element, fold, number_cell, table, text_cell

_PARTS = (
    "preprocessor",
    "large_embeddings",
    "small_embeddings",
    "position_debias",
    "backbone",
)


def architecture(model: RankingModel) -> str:
    """Describes the model in a few words."""
    towers = list(dict.fromkeys(type(t).__name__ for t in model.towers.values()))
    words = [model.sharing]
    if model.backbone is not None:
        words.append(f"{type(model.backbone).__name__} backbone")
    words.append(f"{len(model.towers)} towers: {', '.join(towers)}")
    return " · ".join(words)


def model_section(model: RankingModel, settings: Mapping[str, str]) -> Markup:
    """Shows the weights by part, and the settings as folded text."""
    parts = {
        name.replace("_", " "): [layer]
        for name in _PARTS
        if (layer := getattr(model, name, None)) is not None
    }
    parts["layer norms of stored embeddings"] = list(model.embedding_norms.values())
    parts["towers"] = list(model.towers.values())
    parts["affine maps"] = list(model.affine_maps.values())
    rows, total = [], model.count_params()
    for name, layers in parts.items():
        weights = sum(_count(layer) for layer in layers)
        if layers and weights:
            kinds = ", ".join(dict.fromkeys(type(layer).__name__ for layer in layers))
            rows.append(_row(name, kinds, len(layers), weights))
    rows.append(_row("all", RankingModel.__name__, None, total))
    return element(
        "div",
        table(["part", "class", "layers", "weights"], rows),
        element("p", f"Post-hoc calibrators: {model.calibrators or 'none'}."),
        [
            fold(element("b", title), element("pre", text))
            for title, text in settings.items()
        ],
    )


def _row(name: str, kind: str, layers: int | None, weights: int) -> list[Markup]:
    return [
        text_cell(name, head=True),
        text_cell(kind),
        text_cell("" if layers is None else f"{layers:,}", class_="num"),
        number_cell(weights, None, "{:,}"),
    ]


def _count(layer) -> int:
    return sum(int(weight.shape.num_elements()) for weight in layer.weights)
