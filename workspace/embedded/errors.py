"""What can go wrong when services start; every message is one a person can act on."""


class CannotStart(Exception):
    """A service cannot start; the message says what to do about it."""


class AlreadyRunning(CannotStart):
    """Another process runs the services of this home; `holder` is what it wrote about itself (may be empty)."""

    def __init__(self, message: str, holder: dict[str, str]) -> None:
        super().__init__(message)
        self.holder = holder
