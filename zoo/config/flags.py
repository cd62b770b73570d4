"""What flags of a command line take."""


def positive(text: str) -> int:
    """The type of a flag that counts."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value
