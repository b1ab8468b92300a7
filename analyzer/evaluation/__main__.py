"""`python -m analyzer.evaluation train|evaluate`: makes the shipped model again, or measures it.

Exit codes: 0 done, 2 usage or missing data (one line says what).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analyzer.domain.model import Model, ModelError, default_path, load, save
from analyzer.evaluation import corpus as data
from analyzer.evaluation.calibration import calibrated
from analyzer.evaluation.clustering import evaluate_clusters
from analyzer.evaluation.detecting import evaluate_folds, evaluate_human_only
from analyzer.evaluation.fitting import fit
from analyzer.evaluation.folds import Folds, fitted_folds
from analyzer.evaluation.tables import Value, machine, printed, versions, written

SEED = 1
SOURCES = [
    {"name": "OUTFOX validation essays (ryuryukke/OUTFOX)", "licence": "Apache-2.0"},
    {"name": "BiScope Creative, Yelp, Arxiv (MarkGHX/BiScope)", "licence": "CC BY-SA 4.0"},
]
METRICS = ("auroc", "true_at_1", "high_human", "high_model")

Tables = dict[str, list[dict[str, Value]]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analyzer.evaluation", description=__doc__)
    parser.add_argument("action", choices=["train", "evaluate"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/documents"), help="folder of the corpora")
    parser.add_argument("--out", type=Path, default=Path("eval-out"), help="evaluate: where the JSON files go")
    parser.add_argument("--model", type=Path, default=default_path(), help="the model file to write or to measure")
    parser.add_argument("--date", default="2026-11-21", help="train: the date that the model file names")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.action == "train":
            train(chosen.data, chosen.model, chosen.date)
        else:
            evaluate(chosen.data, chosen.model, chosen.out)
    except (data.MissingData, ModelError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def train(folder: Path, path: Path, date: str) -> None:
    """Fits, calibrates, measures and writes the model. The same data, seed and date give the same file."""
    corpus = data.texts(folder)
    folds = fitted_folds(corpus, seed=SEED)
    model = calibrated(fit(corpus, seed=SEED), corpus, folds, seed=SEED)
    tables = evaluate_folds(corpus, folds, model)
    provenance = {
        "made_by": f"python -m analyzer.evaluation train --date {date}",
        "date": date,
        "data": SOURCES,
        "data_sha256": data.fingerprint(folder),
        "texts": len(corpus),
        "seed": SEED,
        "holds": "n-grams of word shapes and of words that every training domain uses, with weights; no text",
        "metrics": {
            name: {metric: _short(row[metric]) for row in rows if row["of"] == "mean" for metric in METRICS}
            for name, rows in tables.items()
            if name.endswith("_by_domain")
        },
    }
    save(replace(model, provenance=provenance), path)
    print(f"\n{path.name}: {path.stat().st_size:,} bytes, {len(model.ngrams):,} n-grams")


def evaluate(folder: Path, path: Path, out: Path) -> None:
    """Prints every table and writes detector.json and clusters.json to `out`."""
    began = time.perf_counter()
    model = load(path)
    corpus = data.texts(folder)
    texts, labels = data.news(folder)
    print(" ".join(f"{key}={value}" for key, value in {**machine(), **versions()}.items()))
    print(f"model {model.name} {model.version}, {path.stat().st_size:,} bytes; {len(corpus):,} texts")
    folds: Folds = fitted_folds(corpus, seed=SEED)
    tables: Tables = evaluate_folds(corpus, folds, model)
    tables["human_only"] = evaluate_human_only(model, {"news (BBC)": texts, **_issues(folder)})
    written(out / "detector.json", "detector", tables)
    written(out / "clusters.json", "clusters", {"news": evaluate_clusters(model, texts, labels)})
    _headline(tables, model, time.perf_counter() - began)


def _headline(tables: Tables, model: Model, seconds: float) -> None:
    def of(table: str, row: str, column: str) -> Value:
        return next(each[column] for each in tables[table] if each["of"] == row)

    printed(
        "In short",
        ["measure", "value", "wanted"],
        [
            ["mean AUROC on unseen domains, >= 120 words", of("unseen_by_domain", "mean", "auroc"), ">= 0.94"],
            ["mean AUROC on known domains, >= 120 words", of("known_by_domain", "mean", "auroc"), "0.98"],
            ["human documents above 0.7, unseen domains", of("unseen_by_domain", "pooled, any length", "high_human"),
             "<= 0.01"],
            ["human documents above 0.7, news", of("human_only", "news (BBC)", "high_human"), "<= 0.02"],
            ["seconds", seconds, "<= 360"],
        ],
    )  # fmt: skip


def _issues(folder: Path) -> dict[str, Sequence[str]]:
    """Another set of texts that people wrote, where it lies beside the corpora."""
    path = folder.parent / "issues" / "issues_train.csv.gz"
    if not path.exists():
        return {}
    csv.field_size_limit(1 << 30)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(io.StringIO(file.read())))
    return {"GitHub issues": [f"{row['title']}.\n\n{row['body']}" for row in rows]}


def _short(value: Value) -> Value:
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
