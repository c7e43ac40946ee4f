"""The errors a person using the project can cause, each with the exit code it ends in."""


class UserError(Exception):
    """Something outside the code is wrong: the message says what was got, what is wanted and the remedy."""

    exit_code = 1


class UsageError(UserError):
    """The command line or the configuration is wrong."""

    exit_code = 2
