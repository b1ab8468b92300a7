"""The chart's values, their schema and their comments say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent.parent.parent.parent / "charts" / "penstock"
VALUES_TEXT = (CHART / "values.yaml").read_text()
VALUES = yaml.safe_load(VALUES_TEXT)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
KUBERNETES_OWN = {
    "affinity", "tolerations", "topologySpreadConstraints", "env", "extraVolumes", "extraVolumeMounts", "gatewayFrom",
    "metricsFrom", "parentRefs", "extraObjects",
}  # fmt: skip
"""What Kubernetes gives a schema to: the API server checks it."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def both(path: str, values: Any, schema: dict[str, Any]) -> Iterator[str]:
    """What one of the two has and the other has not."""
    schema = resolved(schema)
    if "properties" not in schema:
        if patterns := schema.get("patternProperties"):
            for key, value in (values or {}).items():
                below = [inner for pattern, inner in patterns.items() if re.search(pattern, key)]
                if not below:
                    yield f"{path}.{key}: no pattern takes it"
                for inner in below:
                    yield from both(f"{path}.{key}", value, inner)
        return
    assert isinstance(values, dict), path
    for key in schema["properties"].keys() - values.keys() - {"global"}:
        yield f"{path}.{key}: in the schema alone"
    for key in values.keys() - schema["properties"].keys():
        yield f"{path}.{key}: in the values alone"
    for key in values.keys() & schema["properties"].keys():
        yield from both(f"{path}.{key}", values[key], schema["properties"][key])


def objects(path: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, schema) of every schema of an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(f"{path}/{key}", value)
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from objects(f"{path}/{index}", value)


def test_values_and_schema_have_the_same_names() -> None:
    assert sorted(both("", VALUES, SCHEMA)) == []


def test_the_schema_takes_no_unknown_name() -> None:
    seen = list(objects("", SCHEMA))
    assert len(seen) > 40
    for path, schema in seen:
        if set(path.split("/")) & KUBERNETES_OWN or path.endswith("/global"):
            continue
        assert "additionalProperties" in schema, path
        if "properties" in schema:
            assert schema["additionalProperties"] is False or "resources" in path, path


def test_every_value_has_a_comment() -> None:
    lines = VALUES_TEXT.splitlines()
    bare = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r" *[A-Za-z0-9]+:", line) and not before.strip().startswith("#")
    ]
    assert bare == []


def test_what_has_no_default_is_what_the_first_line_says() -> None:
    for name in ("postgresql", "redis", "s3"):
        assert VALUES[name]["url"] == ""
        assert VALUES[name]["existingSecret"] == ""


def test_the_default_class_has_every_value_of_a_class() -> None:
    assert VALUES["worker"]["classes"]["default"].keys() == resolved(SCHEMA["$defs"]["class"])["properties"].keys()
