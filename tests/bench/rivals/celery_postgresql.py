"""Celery with its broker in Redis and results in PostgreSQL; the producer counts the rows of results."""

from __future__ import annotations

import sys
import time

import psycopg
from celery.signals import worker_process_init

from tests.bench.rivals import postgresql_url
from tests.bench.rivals.celery_settings import application, worker_command

__all__ = ["WORKERS"]

WORKERS = [worker_command("tests.bench.rivals.celery_postgresql")]
PAUSE_SECONDS = 0.1

app = application("db+" + postgresql_url().replace("postgresql://", "postgresql+psycopg://", 1))
app.conf.update(database_create_tables_at_setup=True, database_short_lived_sessions=False)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def own_connections(**_: object) -> None:
    """A forked process must not write to its parent's connection."""
    if "backend" in app.__dict__:
        app.backend.session_manager._engines.clear()


@app.task(name="noop")  # type: ignore[untyped-decorator]
def noop(payload: dict[str, int]) -> None:
    """Does nothing; its result is stored all the same."""
    return


def produce(count: int) -> None:
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:

        def stored() -> int:
            known = connection.execute("SELECT to_regclass('celery_taskmeta')").fetchone()
            if not known or known[0] is None:
                return 0
            row = connection.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'").fetchone()
            return int(row[0]) if row else 0

        before = stored()
        for number in range(count):
            noop.apply_async(({"i": number},))
        while stored() < before + count:
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    from tests.bench.rivals import celery_postgresql

    celery_postgresql.produce(int(sys.argv[1]))
