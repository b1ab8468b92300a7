"""Learns to label issues from those that have a label, with scikit-learn: `train.py ISSUES.jsonl FOLDER`.

Writes FOLDER/weights-small.json and weights-large.json, which `labeller.py` applies. The same issues give the same
weights. Both use the labeller's own words, so that nothing is counted differently in training and in use.
"""

import json
import sys
from pathlib import Path

from labeller import features
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

MOST_TERMS = {"small": 2_000, "large": 5_000}
STRENGTH = {"small": 3.0, "large": 10.0}


def learned(issues: list[dict], model: str) -> dict:
    """Weights of a logistic regression over TF-IDF, as the labeller reads them."""
    count = TfidfVectorizer(
        analyzer=lambda issue: features(issue, model),
        sublinear_tf=True,
        min_df=2,
        max_features=MOST_TERMS[model],
    )
    matrix = count.fit_transform(issues)
    fitted = LogisticRegression(C=STRENGTH[model], max_iter=1000).fit(matrix, [issue["label"] for issue in issues])
    terms = {
        term: [round(float(number), 4) for number in (count.idf_[place], *fitted.coef_[:, place])]
        for term, place in sorted(count.vocabulary_.items())
    }
    return {
        "labels": list(fitted.classes_),
        "bias": [round(float(number), 4) for number in fitted.intercept_],
        "terms": terms,
    }


def main() -> int:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    known = [row for row in rows if row.get("label")]
    if len({row["label"] for row in known}) < 3:
        print(
            f"{source} has labels of {len(known)} issues; at least three different labels are needed", file=sys.stderr
        )
        return 1
    for model in MOST_TERMS:
        weights = learned(known, model)
        path = folder / f"weights-{model}.json"
        path.write_text(json.dumps(weights, ensure_ascii=False))
        print(f"learned {model} from {len(known)} labelled issues: {len(weights['terms'])} terms, {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
