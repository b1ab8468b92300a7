"""Labels one issue: JSON of the item on standard input, `{label, confidence}` on standard output.

Standard library only: what scikit-learn learned (`train.py`) lies beside it as a table of weights, since a program
that starts for each issue must start quickly. `model` is `small` (words of the title) or `large` (words and pairs of
words of title and body). With `hand_over`, an issue that stays under it gets the label `triage`, for a person to look
at, and no confidence: a labeller that does not know should say so.
"""

import json
import math
import re
import sys
from itertools import pairwise
from pathlib import Path

BODY_WORDS = 300
WORD = re.compile(r"[a-z][a-z']+|\d+|[?!]|```")


def words(text: str) -> list[str]:
    return WORD.findall(text.lower().replace("’", "'"))


def features(issue: dict[str, str], model: str) -> list[str]:
    """The terms of an issue, as often as they occur. Those of the title are terms of their own."""
    title = words(issue.get("title") or "")
    found = [f"title {word}" for word in title]
    if model == "large":
        text = title + words(issue.get("body") or "")[:BODY_WORDS]
        found += text + [f"{one} {two}" for one, two in pairwise(text)]
    return found


def probabilities(terms: list[str], weights: dict) -> dict[str, float]:
    """Softmax over TF-IDF, scaled to length 1, times weights: what scikit-learn computes from the same numbers."""
    counts: dict[str, int] = {}
    for term in terms:
        if term in weights["terms"]:
            counts[term] = counts.get(term, 0) + 1
    vector = {term: (1 + math.log(count)) * weights["terms"][term][0] for term, count in counts.items()}
    length = math.sqrt(sum(value * value for value in vector.values())) or 1.0
    scores = list(weights["bias"])
    for term, value in vector.items():
        for at, weight in enumerate(weights["terms"][term][1:]):
            scores[at] += value / length * weight
    top = max(scores)
    shares = [math.exp(score - top) for score in scores]
    return {label: share / sum(shares) for label, share in zip(weights["labels"], shares, strict=True)}


def main() -> int:
    item = json.load(sys.stdin)
    model, hand_over = item["parameters"]["model"], item["parameters"]["hand_over"]
    weights = json.loads((Path(__file__).parent / f"weights-{model}.json").read_text())
    found = probabilities(features(item["payload"], model), weights)
    label, confidence = max(found.items(), key=lambda pair: pair[1])
    confidence = round(confidence, 3)
    if confidence < hand_over:
        json.dump({"label": "triage", "guess": label, "guess_confidence": confidence, "model": model}, sys.stdout)
    else:
        json.dump({"label": label, "confidence": confidence, "model": model}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
