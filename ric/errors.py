"""The two errors that `ric` raises for users: one ends a command, the other skips a sample."""

from __future__ import annotations

LONGEST = 500  # letters of either end of a reason


class RicError(Exception):
    """An error with a message that names the value at fault, and a hint with the next step.

    The command line prints `message` and `hint` as one line each and exits 1; there is no
    traceback unless RIC_DEBUG=1.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        """Store the two lines, with undecodable bytes escaped."""
        super().__init__(message := printable(message))
        self.message = message
        self.hint = hint if hint is None else printable(hint)


class SampleError(RicError):
    """One sample cannot be used: it becomes a row of failures.jsonl, and the others continue.

    Args:
        sample_id: The sample's id.
        stage: What failed: `source`, `target`, `mask`, `texts`, `metadata`, ….
        reason: One line that names the thing and the value.
        hint: The next step, if there is one.

    Attributes:
        row: The place of the sample's row, such as `metadata.jsonl:7`; None if it has none.
        group: Which photo the row is of, as `EditSample.group_id`; None if it does not say.
    """

    def __init__(self, sample_id: str, stage: str, reason: str, hint: str | None = None) -> None:
        """Store the parts and join them into the message."""
        if len(reason) > 2 * LONGEST:  # it may quote a table's cell, which may be of any length
            reason = f"{reason[:LONGEST]}…{reason[-LONGEST:]}"
        super().__init__(f"Sample {sample_id!r}, {stage}: {reason}", hint)
        self.sample_id = printable(sample_id)
        self.stage = stage
        self.reason = printable(reason)
        self.row: str | None = None
        self.group: str | None = None


def printable(text: str) -> str:
    r"""Make a text encodable as UTF-8: bytes of a file name that are not become `\\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that does not come from a file name
        return text.encode("utf-8", "backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
