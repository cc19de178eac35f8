"""How many changes to ask the server for in one answer. Pure.

mongod fills an answer before it sends it: a getMore that has found a change scans on, to its batch
size or to the end of the oplog. On an oplog that is slow to scan, an answer without a limit may
take longer than the run, and the changes that were found never arrive (G11). So an answer without a
limit that does not come soon is given up, and the stream is asked for one change; then for twice as
many after each full answer that came quickly. A slow answer brings it back to one.

Source: `generateBatch` in `src/mongo/db/commands/getmore_cmd.cpp`, which asks for the next result
until `enoughForGetMore`; no clock is asked while it scans.
"""

UNLIMITED = 0  # PyMongo sends no `batchSize` for it
SLOW_S = 1.0  # of a limited answer, beyond the await at the oplog's end
PATIENCE_S = 5.0  # with an answer without a limit
PATIENCE_SHARE = 0.25  # of the time that a read has
LARGEST = 4096


class AnswerSize:
    """The size for the next answer; `fixed` is what an isolated run asks for, whatever comes."""

    def __init__(self, *, await_s: float, fixed: int | None = None) -> None:
        self.next = UNLIMITED if fixed is None else fixed
        self._is_fixed = fixed is not None
        self._await_s = await_s

    def patience_s(self, timeout_s: float) -> float | None:
        """How long to wait for the next answer, of a read's `timeout_s`; None: all of it."""
        if self.next != UNLIMITED:
            return None
        return self._await_s + min(PATIENCE_S, PATIENCE_SHARE * timeout_s)

    def give_up(self) -> None:
        """An answer without a limit did not come: ask for one change, and never for all again."""
        self.next = 1

    def note(self, changes: int, took_s: float) -> None:
        """An answer of so many changes took so long."""
        if self._is_fixed or self.next == UNLIMITED:
            return
        if took_s > self._await_s + SLOW_S:
            self.next = 1
        elif changes >= self.next:
            self.next = min(LARGEST, self.next * 2)
