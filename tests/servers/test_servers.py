"""The servers that tests stand on do what their names say."""

from __future__ import annotations

import sqlalchemy as sa

from penstock.runtime.sql import Database
from tests.servers.redis import RedisServer


def test_a_database_of_each_kind_is_fresh_and_answers(empty_database_url: str) -> None:
    database = Database(empty_database_url, "planner")
    try:
        with database.write() as connection:
            if not database.is_sqlite:
                connection.execute(sa.text("CREATE SCHEMA planner"))
            connection.execute(sa.text("CREATE TABLE proof (a INTEGER PRIMARY KEY)"))
        database.ping()
    finally:
        database.close()


def test_redis_comes_back_empty_at_the_same_address() -> None:
    server = RedisServer()
    try:
        url = server.url
        server.kill()
        server.start()
        server.flush()
        assert server.url == url
    finally:
        server.stop()
