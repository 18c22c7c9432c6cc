"""The one base of every error that a person is meant to read."""


class FlatfoldError(Exception):
    """An expected failure: its message says what was expected, what came and what to do.

    The command line prints the message as one line and exits with `exit_code`; anything that is
    not a FlatfoldError is a bug and keeps its traceback.
    """

    exit_code = 1


class UsageError(FlatfoldError):
    """The command line or a setting is wrong; nothing was tried."""

    exit_code = 2
