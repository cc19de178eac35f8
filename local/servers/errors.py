"""What a server answers instead of a result, by MongoDB's codes.

Source: `src/mongo/base/error_codes.yml` in mongodb/mongo; the driver specification "Change
Streams", section "Resumable Error".
"""

from __future__ import annotations

from typing import Any

BAD_VALUE = 2
FAILED_TO_PARSE = 9
UNAUTHORIZED = 13
ILLEGAL_OPERATION = 20
CURSOR_NOT_FOUND = 43
MAX_TIME_EXPIRED = 50
COMMAND_NOT_FOUND = 59
CAPPED_POSITION_LOST = 136
INVALID_PIPELINE_OPERATOR = 168
CURSOR_KILLED = 237
INVALID_RESUME_TOKEN = 260
CHANGE_STREAM_FATAL = 280
CHANGE_STREAM_HISTORY_LOST = 286
STAGE_NOT_SUPPORTED = 304  # Amazon DocumentDB's own
NOT_PRIMARY = 10107
INTERRUPTED = 11601
INTERRUPTED_BY_STEP_DOWN = 11602
UNKNOWN_STAGE = 40324
UNKNOWN_OPTION = 40415
RESUMABLE = "ResumableChangeStreamError"


class CommandError(Exception):
    """The command fails with a code; `resumable` adds the change streams' error label."""

    def __init__(self, code: int, message: str = "", *, resumable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.resumable = resumable

    def as_answer(self) -> dict[str, Any]:
        """The reply that says so."""
        words = str(self) or f"code {self.code}, as this server was told to answer"
        answer = {"ok": 0.0, "errmsg": words, "code": self.code, "codeName": f"Location{self.code}"}
        return answer | ({"errorLabels": [RESUMABLE]} if self.resumable else {})
