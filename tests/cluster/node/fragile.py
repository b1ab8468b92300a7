"""A class of workers that can be made to fail.

Its workers load `sitecustomize` out of a Secret of their class: an item of `noop` whose payload has `eat_mb` then takes
so much memory in its first attempt; with `child_mb` it lets a child do so, and goes on when that is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FRAGILE", "MOST", "SLOTS", "fragile_class", "secret"]

FRAGILE, MOST, SLOTS = "fragile", 3, 4
GRACE_SECONDS = 10
MEMORY_MB = 320
SECRET = "faults"

EATING = '''
"""Loaded by every Python program of a pod of the class: gives `noop` an appetite."""
import importlib.abc, importlib.util, subprocess, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "worker.processors.noop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            before = module.NoopProcessor.process_batch
            async def process_batch(self, items, context):
                for item in items:
                    if item.attempt == 1:
                        eaten = [bytearray(b"x" * 2**20) for _ in range(item.payload.get("eat_mb", 0))]
                        child = item.payload.get("child_mb", 0)
                        if child:
                            eats = f"x = [bytearray(b'x' * 2**20) for _ in range({child})]"
                            print("its child ended with", subprocess.run([sys.executable, "-I", "-c", eats]).returncode)
                return await before(self, items, context)
            module.NoopProcessor.process_batch = process_batch
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
'''


def fragile_class() -> Mapping[str, Any]:
    """For `worker.classes`."""
    return {
        "max": MOST,
        "slots": SLOTS,
        "graceSeconds": GRACE_SECONDS,
        "secrets": [SECRET],
        "env": {"PYTHONPATH": f"/etc/penstock/secrets/{SECRET}"},
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
            "limits": {"memory": f"{MEMORY_MB}Mi", "ephemeral-storage": "1Gi"},
        },
    }


def secret(namespace: str) -> Mapping[str, Any]:
    """In the worker namespace; pods of the class wait for it."""
    metadata = {"name": SECRET, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"sitecustomize.py": EATING}}
