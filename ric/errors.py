"""The two errors a user of `ric` meets: one ends a command, the other skips a sample."""

from __future__ import annotations


class RicError(Exception):
    """What went wrong, named with its value, and the next step to take.

    The command line prints `message` and `hint` as one line each and exits 1; there is no
    traceback unless RIC_DEBUG=1.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        """Keep the two lines."""
        super().__init__(message := printable(message))
        self.message = message
        self.hint = hint if hint is None else printable(hint)


class SampleError(RicError):
    """One sample cannot be used: it becomes a row of failures.jsonl and the rest goes on.

    Args:
        sample_id: The sample's id.
        stage: What was being done: `source`, `target`, `mask`, `texts`, `metadata`.
        reason: One line that names the thing and the value.
        hint: The next step, where there is one.

    Attributes:
        row: Where the sample's row stands, such as `metadata.jsonl:7`; None where it has none.
    """

    def __init__(self, sample_id: str, stage: str, reason: str, hint: str | None = None) -> None:
        """Keep the parts; together they are the message."""
        super().__init__(f"Sample {sample_id!r}, {stage}: {reason}", hint)
        self.sample_id = printable(sample_id)
        self.stage = stage
        self.reason = printable(reason)
        self.row: str | None = None


def printable(text: str) -> str:
    r"""Give a text that a file can hold: bytes of a name that are not UTF-8 become `\\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, of no file's name
        return text.encode("utf-8", "backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """Give the first line of a library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
