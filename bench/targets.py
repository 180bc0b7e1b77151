"""What was meant to be reached beside what was."""

from msgspec import Struct


class Target(Struct, frozen=True):
    """A figure, and between which values it is meant to be."""

    what: str
    least: float = float("-inf")
    most: float = float("inf")

    @property
    def meant(self) -> str:
        """The values."""
        if self.least == float("-inf"):
            return f"at most {self.most:g}"
        at_least = f"at least {self.least:g}"
        return at_least if self.most == float("inf") else f"{self.least:g} to {self.most:g}"

    def verdict(self, value: float) -> str:
        """Whether it is reached."""
        return "reached" if self.least <= value <= self.most else "not reached"

    def told(self, value: float) -> str:
        """A line."""
        return f"{self.what}: {value:g}, meant {self.meant}: {self.verdict(value)}"
