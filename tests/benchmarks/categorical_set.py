"""A sparse categorical set of 200,000 rows, and what a linear model makes of it.

    python tests/benchmarks/categorical_set.py --input $DATA/ml100k

Who watches what, from MovieLens 100k: each of its 100,000 ratings is a row of the task
`watched`, and so is a film that the same user never rated, at the same time, drawn
uniformly and not twice for a user. Nothing is planted. `liked` is a rating of 4 or 5.
Ten id columns: user, item, zip code, and seven crossings of what is known of user, film
and hour, hashed to 4096 values each. A random tenth of the rows is for validation,
another for the test.

The linear model is scikit-learn's logistic regression on the one-hot ids; its C is
chosen by the validation rows.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

TASKS = ("watched", "liked")
BUCKETS = 4096
CHOICES_OF_C = (0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 1.0)
SPLITS = ("train", "validation", "test")


def make_rows(folder: pathlib.Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Column name -> values, in random order."""
    ratings, users, items = (
        _read(folder / f"{name}.parquet") for name in ("ratings", "users", "items")
    )
    rng = np.random.default_rng(seed)
    user_ids, item_ids = ratings["user_id"], ratings["item_id"]
    other = _unwatched(user_ids, item_ids, items["item_id"], rng)
    rows = {
        "user_id": np.tile(user_ids, 2),
        "item_id": np.concatenate([item_ids, other]),
        "watched": np.repeat([1, 0], len(user_ids)),
        "liked": np.append(ratings["rating"] >= 4, np.zeros(len(user_ids), bool)),
    }
    hour = np.tile(ratings["timestamp"] // 3600 % 24, 2)
    user = _joined(users, "user_id", rows["user_id"])
    item = _joined(items, "item_id", rows["item_id"])
    decade = user["age"] // 10
    crossed = {
        "user_x_genres": (rows["user_id"], item["class"]),
        "item_x_decade": (rows["item_id"], decade),
        "item_x_gender": (rows["item_id"], user["gender"]),
        "item_x_occupation": (rows["item_id"], user["occupation"]),
        "zip_x_genres": (user["zip_code"], item["class"]),
        "user_x_hour": (rows["user_id"], hour),
        "year_x_occupation_x_decade": (
            item["release_year"],
            user["occupation"],
            decade,
        ),
    }
    rows["zip_code"] = user["zip_code"]
    # Known from user_id as well; it gives models with a dense part something to eat.
    rows["age"] = user["age"]
    for name, parts in crossed.items():
        rows[name] = _hashed(*parts)
    rows["liked"] = rows["liked"].astype(int)
    order = rng.permutation(len(rows["watched"]))
    return {name: np.asarray(column)[order] for name, column in rows.items()}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    columns = pq.read_table(path)
    return {
        name: columns[name].to_numpy(zero_copy_only=False)
        for name in columns.column_names
    }


def _joined(side: dict[str, np.ndarray], key: str, values) -> dict[str, np.ndarray]:
    """The rows of `side` whose `key` is each of `values`."""
    order = np.argsort(side[key])
    places = order[np.searchsorted(side[key][order], values)]
    return {name: column[places] for name, column in side.items()}


def _unwatched(user_ids, item_ids, items, rng: np.random.Generator) -> np.ndarray:
    """For each rating an item that its user never rated, no item twice for a user.

    Twice, it could be in the training rows and in the test rows, to be remembered.
    """
    other = np.empty_like(item_ids)
    for user in np.unique(user_ids):
        rated = user_ids == user
        rest = np.setdiff1d(items, item_ids[rated])
        other[rated] = rng.choice(rest, rated.sum(), replace=False)
    return other


def _hashed(*parts) -> np.ndarray:
    joined = ("|".join(map(str, values)) for values in zip(*parts, strict=True))
    return np.array([zlib.crc32(text.encode()) % BUCKETS for text in joined])


def convert(rows: dict[str, np.ndarray], out: pathlib.Path) -> None:
    """Writes the splits as parquet and, through recap_tf.convert, as records."""
    out.mkdir(parents=True, exist_ok=True)
    count = len(rows["watched"])
    edges = [0, round(0.8 * count), round(0.9 * count), count]
    for name, start, end in zip(SPLITS, edges[:-1], edges[1:], strict=True):
        split = {column: values[start:end] for column, values in rows.items()}
        pq.write_table(pa.table(split), out / f"{name}.parquet")
    ids = ",".join(id_columns(rows))
    command = [sys.executable, "-m", "recap_tf.convert", "--input"]
    records = str(out / "records")
    first = ["--out", records, "--labels", ",".join(TASKS), "--ids", ids]
    first += ["--numeric", "age", "--min-count", "2", "--overwrite"]
    subprocess.run([*command, str(out / "train.parquet"), *first], check=True)
    for name in SPLITS[1:]:
        more = ["--schema", f"{records}/schema.json", "--split-name", name]
        subprocess.run([*command, str(out / f"{name}.parquet"), *more], check=True)


def id_columns(columns) -> list[str]:
    """The ten columns of ids among `columns`."""
    return [name for name in columns if name not in (*TASKS, "age")]


def linear_result(
    out: pathlib.Path, data: pathlib.Path = pathlib.Path("data/categorical")
) -> dict:
    """AUROC of the linear model on the test rows; computed once, kept in `out`."""
    path = out / "categorical" / "logistic_regression.json"
    if path.exists() and path.with_suffix(".npz").exists():
        return json.loads(path.read_text())
    tables = {name: pq.read_table(data / f"{name}.parquet") for name in SPLITS}
    columns = id_columns(tables["train"].column_names)
    vocabularies = {
        name: np.unique(tables["train"][name].to_numpy(zero_copy_only=False))
        for name in columns
    }
    inputs = {name: _one_hot(one, vocabularies) for name, one in tables.items()}
    aurocs, chosen, scores = {}, {}, []
    for task in TASKS:
        labels = {name: one[task].to_numpy() for name, one in tables.items()}
        models = {
            c: LogisticRegression(C=c, max_iter=300).fit(
                inputs["train"], labels["train"]
            )
            for c in CHOICES_OF_C
        }

        def auroc(c, split, models=models, labels=labels):
            scores = models[c].decision_function(inputs[split])
            return roc_auc_score(labels[split], scores)

        chosen[task] = max(models, key=lambda c: auroc(c, "validation"))
        aurocs[task] = auroc(chosen[task], "test")
        scores.append(models[chosen[task]].decision_function(inputs["test"]))
    result = {
        "auroc": aurocs,
        "C": chosen,
        "weights": inputs["train"].shape[1] + 1,
        "steps_per_second": None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [tables["test"][task].to_numpy() for task in TASKS]
    stacked = {"scores": np.stack(scores, 1), "labels": np.stack(labels, 1)}
    np.savez(path.with_suffix(".npz"), **stacked)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def linear_scores(out: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, tasks) scores of the linear model, and labels, of the test rows in order."""
    linear_result(out)
    stored = np.load(out / "categorical" / "logistic_regression.npz")
    return stored["scores"], stored["labels"]


def _one_hot(table: pa.Table, vocabularies: dict[str, np.ndarray]):
    """One column per value of the training rows; other values are all zeros."""
    blocks = []
    for name, known in vocabularies.items():
        values = table[name].to_numpy(zero_copy_only=False)
        places = np.minimum(np.searchsorted(known, values), len(known) - 1)
        hit = np.flatnonzero(known[places] == values)
        shape = (len(values), len(known))
        ones = np.ones(len(hit))
        blocks.append(scipy.sparse.csr_matrix((ones, (hit, places[hit])), shape))
    return scipy.sparse.hstack(blocks, format="csr")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="folder of ml100k's parquet")
    parser.add_argument("--out", default="data/categorical", help="folder to make")
    arguments = parser.parse_args()
    convert(make_rows(pathlib.Path(arguments.input)), pathlib.Path(arguments.out))


if __name__ == "__main__":
    main()
