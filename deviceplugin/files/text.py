"""Words from outside as one bounded line that can be printed; pure."""

__all__ = ["MAX_LINE", "one_line"]

MAX_LINE = 300
_SPACED = 8  # of so much text for each character that is shown, spaces may be the most


def one_line(text: str, length: int = MAX_LINE) -> str:
    """Words with single spaces, `length` characters at most; what is not printable is replaced:
    firmware, drivers and agents may hold anything, line ends and the codes of a terminal too."""
    joined = " ".join(text[: length * _SPACED].split())[:length]
    if joined.isprintable():
        return joined
    return "".join(c if c.isprintable() else "\ufffd" for c in joined)
