"""The exceptions whose message is meant for the person in front of the screen or the terminal."""


class Refused(Exception):
    """Something was asked for that cannot be done; the message says what was wrong and what to do."""
