"""What was seen of a release in a cluster: objects as the API server has them, or why they could not be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.client.diagnosis_views import RightView
from penstock.doctor.place import Release

__all__ = ["ClusterFacts", "Json", "SecretSeen", "Seen", "Unseen"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Unseen:
    """why: as the API server said it."""

    why: str


Seen = tuple[Json, ...] | Unseen


@dataclass(frozen=True, kw_only=True)
class SecretSeen:
    """One that a program or a class names. keys: those it should have; lacking: those of them that it has not; the rest
    is of one with certificates: until when they hold (ISO 8601, "" where it has none that can be read)."""

    namespace: str
    name: str
    there: bool
    lacking: tuple[str, ...] = ()
    end_time: str = ""
    authority_end_time: str = ""
    generation: int = 0


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """pods: of both namespaces. worker_namespace, owner: none where there is no such object. classes: as the scheduler
    reads them. autoscalers: what changes the number of a program's pods. said: what pods that are not ready say of
    themselves, by name."""

    release: Release
    deployments: Seen
    autoscalers: Seen
    jobs: Seen
    pods: Seen
    worker_namespace: Seen
    owner: Seen
    owner_name: str
    classes: Mapping[str, Json] | Unseen
    quotas: Seen
    policies: Seen
    network_policies: Seen
    rights: tuple[RightView, ...] | Unseen
    secrets: tuple[SecretSeen, ...] | Unseen
    said: Mapping[str, str]
