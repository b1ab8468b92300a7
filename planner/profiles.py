"""The profiles that plans may name: those of the setting `planner.profiles`, and the shipped ones that it leaves alone.

What is wrong with their parameters for a processor that is installed, or with their class of workers, is told when the
planner starts, all of it at once, and it does not start. Declared processors come and go while it runs: of them the
plan that needs it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import orjson
from pydantic import ValidationError

from penstock.declared.folder import Processors
from penstock.runtime.errors import InvalidInput, PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.settings import ProfileSettings
from penstock.v1 import planner_pb2
from planner.domain.profiles import SHIPPED, Profile
from planner.worker_classes import ANY_CLASS, WorkerClasses

__all__ = ["Profiles", "profile_message"]

log = get_logger("planner")


class Profiles:
    """All of them by name: the shipped ones first, then by name."""

    def __init__(self, settings: Mapping[str, ProfileSettings] | None = None) -> None:
        found = {profile.name: profile for profile in SHIPPED}
        for name, told in sorted((settings or {}).items()):
            found[name] = Profile(name=name, **told.model_dump())
        self.all = tuple(found.values())
        self._by_name = found

    def get(self, name: str) -> Profile:
        """Raises InvalidInput (`unknown_profile`) that lists them."""
        if name not in self._by_name:
            raise InvalidInput(
                f"there is no profile {name[:100]!r}; there are: {', '.join(self._by_name)}", code="unknown_profile"
            )
        return self._by_name[name]

    def check(self, processors: Processors, classes: WorkerClasses = ANY_CLASS) -> None:
        """Raises InvalidInput (`settings`) with all parameters that installed processors would not take, and classes of
        workers that no plan may name."""
        problems: list[str] = []
        for profile in self.all:
            if profile.worker_class and (problem := classes.problem(profile.worker_class)):
                problems.append(f"planner.profiles.{profile.name}.worker_class: {problem}")
            for name, values in profile.parameters.items():
                where = f"planner.profiles.{profile.name}.parameters.{name}"
                if name in processors.installed:
                    problems += _problems(where, processors, name, values)
                elif name not in processors.names():
                    log.warning("a profile sets parameters of a processor that is not there", setting=where)
        if problems:
            raise InvalidInput("settings are wrong:\n  " + "\n  ".join(problems), code="settings")


def _problems(where: str, processors: Processors, name: str, values: Mapping[str, object]) -> list[str]:
    """What is missing is for the stages to say."""
    try:
        parameters = processors.look_up(name).parameters_type
        parameters.model_validate(dict(values))
    except ValidationError as error:
        known = ", ".join(parameters.model_fields) or "none"
        return [
            f"{'.'.join([where, *map(str, one['loc'])])}: {one['msg']} (its parameters: {known})"
            for one in error.errors()
            if one["type"] != "missing"
        ]
    except PenstockError as error:
        return [f"{where}: {error.message}"]
    return []


def profile_message(profile: Profile) -> planner_pb2.Profile:
    told = {name: value for name, value in asdict(profile).items() if name != "parameters"}
    parameters = orjson.dumps(profile.parameters) if profile.parameters else b""
    return planner_pb2.Profile(**told, parameters=parameters)
