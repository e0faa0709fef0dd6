"""The one error that depurate raises for input it cannot work with."""


class InputError(ValueError):
    """Input that cannot be used, told in one line that names the file, layer, shape or value at fault.

    The command turns it into that line on standard error and exit code 2.

    >>> raise InputError("a.pt: not a checkpoint")
    Traceback (most recent call last):
    depurate.errors.InputError: a.pt: not a checkpoint
    """
