"""Text of others as it can be shown: in a table, in a log, as the value of a label."""

MAX_LINE = 300


def one_line(text: str, length: int = MAX_LINE) -> str:
    """Words with single spaces; what is not printable is replaced: firmware, drivers and agents
    may hold anything, line ends and the codes of a terminal too."""
    joined = " ".join(text.split())[:length]
    if joined.isprintable():
        return joined
    return "".join(c if c.isprintable() else "\ufffd" for c in joined)
