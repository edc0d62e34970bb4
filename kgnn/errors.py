"""What kgnn says when the input is wrong."""


class InputError(ValueError):
    """Input that cannot be used: the message names the file, line, gene or column and what to do."""


class OutputError(InputError):
    """A file or folder that cannot be written, or that holds others' files: the message names it and what to do."""


class DataWarning(UserWarning):
    """Input that can be used, but probably not as its owner meant it."""
