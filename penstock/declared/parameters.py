"""A declaration's parameters as the typed model that every processor has. Plans check them and show their schema. Pure.

A default, an enum or a bound that its own type does not allow is found when the declaration is read.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, create_model
from pydantic.functional_validators import AfterValidator

from penstock.declared.form import Parameter
from penstock.declared.schemas import schema_problems, value_problems
from penstock.processor import Parameters

__all__ = ["parameter_problems", "parameters_type"]

_NAME = re.compile("[a-z][a-z0-9_]{0,62}")
_OWN = ("description", "default")


def parameter_problems(parameters: Mapping[str, object]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(where, what) beyond the types of the form."""
    for name, parameter in parameters.items():
        path = ("parameters", name)
        if not _NAME.fullmatch(name) or keyword.iskeyword(name) or hasattr(Parameters, name):
            yield path, f"{name!r} can't be a parameter's name: a-z, 0-9 and _, and no word that Python keeps"
        if not isinstance(parameter, Mapping):
            continue
        schema = {word: value for word, value in parameter.items() if word not in _OWN}
        if next(schema_problems(schema), None) is not None:
            continue  # the form tells it
        if "default" in parameter:
            for problem in value_problems(schema, parameter["default"], "default"):
                yield (*path, "default"), f"parameter {name}: {problem}"
        for value in parameter.get("enum") or ():
            for problem in value_problems({"type": schema["type"]} if "type" in schema else {}, value, "enum"):
                yield (*path, "enum"), f"parameter {name}: {problem}"


def parameters_type(parameters: Mapping[str, Parameter]) -> type[Parameters]:
    """The model; frozen, and unknown names are refused."""
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        schema = parameter.model_dump(exclude_unset=True)
        kind: Any = Annotated[Any, AfterValidator(_checked(schema)), WithJsonSchema(schema)]
        default = parameter.default if "default" in parameter.model_fields_set else ...
        fields[name] = (kind, Field(default, description=parameter.description or None))
    return create_model("DeclaredParameters", __base__=Parameters, **fields)


def _checked(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    rules = {word: value for word, value in schema.items() if word not in _OWN}

    def check(value: Any) -> Any:
        if problems := value_problems(rules, value, "it"):
            raise ValueError("; ".join(problems))
        return int(value) if rules["type"] == "integer" else value

    return check
