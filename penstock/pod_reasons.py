"""Why a container waits, as kubelets call it: the one list, by which scheduler and doctor tell the same story of the
same pod. A reason that stands nowhere here is no trouble of its own: the pod is only not ready yet.
"""

from __future__ import annotations

__all__ = ["CONTAINER_REASONS", "CRASHES", "IMAGE_REASONS"]

# Source: k8s.io/kubernetes pkg/kubelet/images/types.go and k8s.io/cri-api pkg/errors/errors.go, 1.36.
IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""Its image can't be had."""

# Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go and pkg/kubelet/container/sync_result.go.
CONTAINER_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""It can't be made of its image: a Secret is not there, a command does not exist."""

CRASHES = "CrashLoopBackOff"
"""It has ended, and is started again later."""
