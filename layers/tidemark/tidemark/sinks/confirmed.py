"""What a service confirmed behind a change that it did not take yet.

The position cannot pass that change (G1), so all behind it comes to the sink once more. Within a
run the sink knows what has arrived and does not send it again: a single throttled partition costs
a batch of duplicates at the most, and only where the run ends before it does (G3).
"""

from collections.abc import Iterable

from tidemark.model import Batch, change_id


class Confirmed:
    """The ids of such changes by stream, at most a batch of each; forgotten with the run."""

    def __init__(self) -> None:
        self._ids: dict[str, tuple[int, set[str]]] = {}  # with the fencing token of their run

    def places(self, batch: Batch) -> set[int]:
        """Which of `batch` need not be sent."""
        known = self._of_run(batch)
        if not known:
            return set()
        return {place for place, change in enumerate(batch) if change_id(change) in known}

    def remember(self, batch: Batch, delivered: int, ahead: Iterable[int]) -> None:
        """`ahead`: the places confirmed behind the first `delivered` of `batch`."""
        known = self._of_run(batch)
        passed = {change_id(change) for change in batch[:delivered]} if known else set()
        ids = (known - passed) | {change_id(batch[place]) for place in ahead}
        self._ids[batch.stream] = batch.fencing_token, ids

    def _of_run(self, batch: Batch) -> set[str]:
        token, ids = self._ids.get(batch.stream, (0, set()))
        return ids if token == batch.fencing_token else set()
