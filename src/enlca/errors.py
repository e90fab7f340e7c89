"""The one kind of error that is meant for the person at the keyboard."""


class EnlcaError(ValueError):
    """Input that cannot be used: one line that says what is wrong and what would be right.

    Commands print it without a traceback; each room has its own kind.
    """
