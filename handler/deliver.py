"""What should happen to a change: the file to edit."""

from tidemark.model import Batch


def deliver(batch: Batch) -> None:
    """Called with 1..max_changes changes in stream order; returning means that they are delivered.

    Raise, or return {"batchItemFailures": [{"itemIdentifier": batch.change_id(change)}]}, and the
    changes from there on come again. The same change may come twice: its change_id is the same.
    Copy a nested document before you alter it: a retry and a dead letter have no other.
    """
    for change in batch:  # change events exactly as PyMongo gives them
        print(change["operationType"], change.get("documentKey"))  # drops and renames have no key
