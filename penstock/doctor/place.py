"""Where a Penstock is, for the words of commands: a release in a cluster, or the programs of one `penstock up`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMPONENT", "INSTANCE", "Place", "Release"]

INSTANCE, COMPONENT = "app.kubernetes.io/instance", "app.kubernetes.io/component"
"""Labels of all that the chart makes: the release, and which program it is."""


@dataclass(frozen=True)
class Release:
    name: str
    namespace: str
    workers: str
    """Namespace of the pods that work."""
    admin_token: tuple[str, str] = ("", "")
    """Secret and key of the first admin token; "": the chart's own."""

    def kubectl(self, words: str) -> str:
        return f"kubectl -n {self.namespace} {words}"

    def logs(self, program: str) -> str:
        return self.kubectl(f"logs deployment/{self.name}-{program} --tail=50")

    def token(self) -> str:
        """What a shell puts the first admin token in place of."""
        secret, key = self.admin_token
        secret, key = secret or f"{self.name}-admin-token", key or "admin-token"
        template = f'{{{{index .data "{key}" | base64decode}}}}'
        return f"$({self.kubectl(f'get secret {secret}')} -o go-template='{template}')"

    def upgrade(self, values: str = "") -> str:
        """With the values as they are, but for these. The chart's own come anew: of a newer chart, --reuse-values alone
        would leave out what it has besides."""
        keep = "--reset-then-reuse-values"
        return f"helm upgrade {self.name} charts/penstock -n {self.namespace} {keep}{f' {values}' * bool(values)}"

    def restore(self, values: str = "") -> str:
        """What somebody has changed or taken away comes back as the chart has it, by Helm itself: an `apply` of what it
        rendered would own its fields, and refuse its next upgrade."""
        return f"{self.upgrade(values)} --force-conflicts   # Helm 3 has no --force-conflicts, and needs none"

    def migrate(self) -> str:
        """The Job of the migrations once more."""
        selector = f"{INSTANCE}={self.name},{COMPONENT}=migrations"
        return f"{self.kubectl(f'delete job -l {selector}')} && {self.restore()}"


@dataclass(frozen=True)
class Place:
    """release: None where there is no cluster, or none is known."""

    release: Release | None = None

    def logs(self, program: str) -> str:
        return self.release.logs(program) if self.release else f'tail -50 "$PENSTOCK_DATA/logs/{program}.log"'

    def setting(self, chart: str, setting: str) -> str:
        """Sets a value of the chart, or else the setting."""
        if self.release:
            return self.release.upgrade(f"--set {chart}")
        return f"{setting} penstock up"
