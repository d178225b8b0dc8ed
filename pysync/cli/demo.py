"""``pysync demo``."""


def demo() -> None:
    """Replay real registrations."""
