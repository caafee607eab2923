"""The one exception that a user is meant to see."""


class UserError(Exception):
    """A mistake in the input, in one line that says what to do.

    The command line prints it on stderr without a traceback and exits with status 2.
    """
