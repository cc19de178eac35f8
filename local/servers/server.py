"""One deployment: its oplog, its cursors, and what a test may do to it."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

from bson.int64 import Int64

from servers.errors import (
    CURSOR_KILLED,
    CURSOR_NOT_FOUND,
    INTERRUPTED,
    INTERRUPTED_BY_STEP_DOWN,
    NOT_PRIMARY,
    CommandError,
)
from servers.faults import Faults
from servers.oplog import Oplog
from servers.scans import Scans
from servers.tokens import DocumentDBForm, MongoDBForm

if TYPE_CHECKING:
    from servers.character import Character
    from servers.cursors import Cursor
    from servers.tokens import Form


class Server:
    """What `serve` yields.

    `insert`, `update`, `replace`, `delete`, `drop`, `drop_database`, `noop`, `foreign`, `prune`,
    `set_time` and `advance` are the oplog's. `commands` lists what drivers sent: name, command.
    """

    def __init__(
        self, character: Character, address: str, *, starts_at_s: float | None = None
    ) -> None:
        self.character = character
        self.address = address
        self.oplog = Oplog(character.shard_key, starts_at_s=starts_at_s)
        self.faults = Faults()
        self.scans = Scans()
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.cursors: dict[int, Cursor] = {}
        self.form: Form = MongoDBForm() if character.token_form == "mongodb" else DocumentDBForm()
        self._ids = itertools.count(1)
        self._killed: dict[int, int] = {}
        self._lock = threading.Lock()
        self._secondary_until_s = 0.0
        self.insert, self.update, self.replace = (
            self.oplog.insert,
            self.oplog.update,
            self.oplog.replace,
        )
        self.delete, self.drop = self.oplog.delete, self.oplog.drop
        self.drop_database = self.oplog.drop_database
        self.noop, self.foreign, self.prune = (
            self.oplog.noop,
            self.oplog.foreign,
            self.oplog.prune,
        )
        self.set_time, self.advance = self.oplog.set_time, self.oplog.advance

    # ------------------------------------------------------------------------- for who asks it

    @property
    def uri(self) -> str:
        """The connection string: direct to a replica set's one node, plain to mongos."""
        options = "" if self.character.product == "mongos" else "?directConnection=true"
        return f"mongodb://{self.address}/{options}"

    @property
    def scans_running(self) -> int:
        """How many commands are scanning, or waiting at the oplog's end."""
        return self.scans.running

    @property
    def scans_left_behind(self) -> int:
        """How many scans went on without their client, and were ended by no killCursors."""
        return self.scans.left_behind

    def count(self, command: str) -> int:
        """How many commands of a name were sent."""
        return [name for name, _ in self.commands].count(command)

    def sent(self, command: str) -> list[dict[str, Any]]:
        """The commands of a name, in order."""
        return [given for name, given in self.commands if name == command]

    # ------------------------------------------------------------------- what a test does to it

    def step_down(self, for_s: float = 0.0) -> None:
        """Another node becomes primary, and this one again after `for_s` seconds.

        What is under way is interrupted (11602, resumable), open cursors are those of a node that
        the driver does not ask again (43), and until then this node is no primary (10107).
        """
        self._secondary_until_s = time.monotonic() + for_s
        self._forget_cursors(CURSOR_NOT_FOUND)
        self.scans.end_all(INTERRUPTED_BY_STEP_DOWN, resumable=True)

    def kill_cursors(self, code: int = CURSOR_NOT_FOUND) -> None:
        """An operator kills every cursor: scans and the next getMore answer `code`."""
        self._forget_cursors(code)
        self.scans.end_all(code)

    def stop(self) -> None:
        """End every scan, so that no thread stays."""
        self.scans.end_all(INTERRUPTED)

    # ----------------------------------------------------------------------- what commands use

    @property
    def is_primary(self) -> bool:
        """Whether it takes commands."""
        return time.monotonic() >= self._secondary_until_s

    def require_primary(self) -> None:
        """Raise CommandError while another node is primary."""
        if not self.is_primary:
            raise CommandError(NOT_PRIMARY, "not primary", resumable=True)

    def keep(self, cursor: Cursor) -> Int64:
        """Make a cursor known; its id."""
        with self._lock:
            cursor_id = next(self._ids)
            self.cursors[cursor_id] = cursor
            return Int64(cursor_id)

    def cursor(self, cursor_id: int) -> Cursor:
        """An open cursor. Raises CommandError."""
        with self._lock:
            if cursor_id not in self.cursors:
                code = self._killed.pop(cursor_id, CURSOR_NOT_FOUND)
                raise CommandError(code, f"cursor id {cursor_id} not found")
            return self.cursors[cursor_id]

    def forget(self, cursor_id: int) -> bool:
        """Close a cursor, and end the scan that it has under way; whether there was one."""
        with self._lock:
            cursor = self.cursors.pop(cursor_id, None)
        if cursor is not None and cursor.scan is not None:
            cursor.scan.end(CURSOR_KILLED)
        return cursor is not None

    def _forget_cursors(self, code: int) -> None:
        with self._lock:
            self._killed |= dict.fromkeys(self.cursors, code)
            self.cursors.clear()
