"""The disk: real SQLite files, a connection that dies with its manager, and writes that fail when the disk is full.

Every commit is a boundary. What has reached the disk is read off the statements, so that the checks know at any moment
what the next manager would find.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .world import Life, World

__all__ = ["SimConnection", "connector"]


class SimConnection(sqlite3.Connection):
    """A connection of one life. It is closed without a commit when that life is killed."""

    world: World
    life: Life
    written: dict[str, dict[str, Any] | None]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if not self.life.alive:
            raise sqlite3.ProgrammingError("this process has been killed")
        if sql == "BEGIN IMMEDIATE":
            self.written = {}
        elif sql.startswith("INSERT INTO daemon"):
            self.written[parameters[0]] = json.loads(parameters[2])
        elif sql.startswith("DELETE FROM daemon"):
            self.written[parameters[0]] = None
        elif sql.startswith("INSERT INTO meta") and not self.in_transaction:
            return self._boundary(f"meta {parameters}", sql, parameters)
        elif sql == "COMMIT":
            return self._boundary("commit", sql, parameters)
        return super().execute(sql, parameters)

    def _boundary(self, what: str, sql: str, parameters: Any) -> sqlite3.Cursor:
        self.world.boundary(f"before {what}")
        if self.world.disk_full:
            raise sqlite3.OperationalError("database or disk is full")
        cursor = super().execute(sql, parameters)
        if sql == "COMMIT":
            self.world.on_committed(self.written)
        self.world.boundary(f"after {what}")
        return cursor


def connector(world: World) -> Any:
    """What stands in for sqlite3.connect."""

    def connect(path: Any, **options: Any) -> SimConnection:
        life = world.life
        assert life is not None
        connection: SimConnection = _connect(path, factory=SimConnection, **options)
        connection.world, connection.life = world, life
        connection.written = {}
        life.connections.append(connection)
        return connection

    return connect


_connect = sqlite3.connect
