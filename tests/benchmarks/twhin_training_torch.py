"""The torch side of twhin_training.py: imports torch and numpy alone.

Two towers of EmbeddingBags with sparse gradients and plain SGD, translations per
relation, in-batch negatives by a permutation within each relation, logistic loss.
Prints a JSON list of edges per second, one per repetition.
"""

import argparse
import json
import time

import numpy as np
import torch


def train_step(tables, translations, optimizer, edges, negatives: int):
    """Makes one update by (batch, 3) edges; returns the loss."""
    optimizer.zero_grad(set_to_none=True)
    lhs_rows, relation, rhs_rows = edges.unbind(1)
    lhs = tables[0](lhs_rows.unsqueeze(1))
    rhs = tables[1](rhs_rows.unsqueeze(1))
    moved = lhs + translations[relation]
    positives = (moved * rhs).sum(1)
    scores = []
    for number in range(len(translations)):
        members = torch.nonzero(relation == number).squeeze(1)
        count = len(members)
        if not count:
            continue
        lefts, rights = moved[members], rhs[members]
        for fixed, replaced in ((rights, lefts), (lefts, rights)):
            places = torch.randperm(count).repeat(-(-negatives // count))[:negatives]
            scores.append((fixed @ replaced[places].T).flatten())
    scores = torch.cat(scores)
    logits = torch.cat([positives, scores])
    labels = torch.cat([torch.ones_like(positives), torch.zeros_like(scores)])
    weights = torch.cat(
        [
            torch.ones_like(positives),
            torch.full_like(scores, len(positives) / len(scores)),
        ]
    )
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, weights)
    loss.backward()
    optimizer.step()
    return loss.detach()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--edges", required=True)
    parser.add_argument("--rows", type=int, nargs=2, required=True)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--negatives", type=int, default=10)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    edges = torch.from_numpy(np.load(arguments.edges).astype(np.int64))
    relations = int(edges[:, 1].max()) + 1
    tables = [
        torch.nn.EmbeddingBag(rows, arguments.dim, mode="sum", sparse=True)
        for rows in arguments.rows
    ]
    translations = torch.nn.Parameter(torch.zeros(relations, arguments.dim))
    optimizer = torch.optim.SGD(
        [{"params": table.parameters()} for table in tables]
        + [{"params": [translations], "lr": 0.05}],
        lr=0.01,
    )
    batches = edges.split(arguments.batch)
    rates, at = [], 0
    for repetition in range(arguments.repeat + 1):
        steps, losses, started = 0, [], time.perf_counter()
        while time.perf_counter() - started < arguments.seconds:
            batch = batches[at % (len(batches) - 1)]
            losses.append(
                train_step(tables, translations, optimizer, batch, arguments.negatives)
            )
            at, steps = at + 1, steps + 1
        float(torch.stack(losses).mean())
        if repetition:
            rates.append(steps * arguments.batch / (time.perf_counter() - started))
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
