"""The one exception that a user is meant to see."""


class UserError(Exception):
    """A mistake in the input, in one line that says what to do.

    The command line prints it on stderr without a traceback and exits with status 2.
    """


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with a message unless the condition holds; for the settings of plug-ins, in
    ``__post_init__``, whose ``ValueError`` the command line shows as a ``UserError``."""
    if not condition:
        raise ValueError(message)
