"""The root of all errors that a user can do something about."""


class EnlcaError(Exception):
    """Something a user can understand and act on: the message is one line that says what and what instead.

    `exit_code` is what a command ends with: 2 where the call was wrong, 1 where the work failed,
    130 where somebody stopped it.
    """

    exit_code = 2
