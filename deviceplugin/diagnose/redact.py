"""Taking out of a capture what identifies a machine, so that what was equal stays equal; pure.

PCI addresses, model names and versions stay: they say the slot and the model, which many machines
have in common, and the order of devices and their topology hang on them.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable

from msgspec import Struct, field

_HEX = "[0-9a-fA-F]"
_UUID = re.compile(rf"\b{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}\b")
_MAC = re.compile(rf"\b(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}\b")
# Where texts say one: nvidia-smi's XML, the JSON of tools.
_SERIALS = (
    re.compile(r"<([a-z_]*(?:serial|guid)[a-z_]*)>([^<]+)</"),
    re.compile(r'"([a-z_]*(?:serial|guid)[a-z_]*)": *"?([^",}\n]+)'),
)
# Hexadecimal: sysfs's file (`/unique_id = 1f…` in a tree), nvidia-smi's device identifier (PDI).
# Decimal: other files of sysfs, KFD's properties.
_IDS_HEX = re.compile(rf"(?:/unique_id = |<pdi>)(?:0x)?({_HEX}{{6,16}})(?:$|</pdi>)", re.MULTILINE)
_IDS_DECIMAL = re.compile(
    r"(?:\b|(?<=\\n))(?:unique_id|hive_id|xgmi_hive_id =|xgmi_device_id =) (\d{6,20})\b"
)
_SERIAL_FILES = re.compile(r"/(?:serial_number|serial) = (\S+)$", re.MULTILINE)
_NO_SERIAL = frozenset({"n/a", "none", "unknown", "[n/a]", "null", "not supported"})
_SHORTEST = 6  # a shorter text is found by chance everywhere


class Redactor(Struct):
    """Replaces what identifies a machine; `key` makes the replacement of a value.

    The same key and value give the same replacement: two captures of one machine can be compared,
    and a value is the same in every file. `counts` says how many values of each kind were replaced.
    """

    key: str
    host_names: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    _known: dict[str, str] = field(default_factory=dict)
    _counted: set[str] = field(default_factory=set)

    def learn(self, texts: Iterable[str]) -> None:
        """Note serial numbers and unique ids, which only their place tells, wherever they stand."""
        for text in texts:
            for pattern in _SERIALS:
                self._learn_serials(found[1] for found in pattern.findall(text))
            self._learn_serials(_SERIAL_FILES.findall(text))
            for number in (int(found, 16) for found in _IDS_HEX.findall(text)):
                self._learn_number(number)
            for number in map(int, _IDS_DECIMAL.findall(text)):
                self._learn_number(number)

    def text(self, text: str) -> str:
        """The text without what identifies the machine."""
        text = self._replaced(_UUID, "UUID", self._uuid, text)
        text = self._replaced(_MAC, "MAC address", self._mac, text)
        for value in sorted(self._known, key=len, reverse=True):
            text = re.sub(
                rf"(?<!\w){re.escape(value)}(?!\w)", self._known[value], text, flags=re.IGNORECASE
            )
        for name in sorted(filter(_is_name, self.host_names), key=len, reverse=True):
            pattern = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
            if pattern.search(text):
                text = pattern.sub(self.host_name(name), text)
        return text

    def host_name(self, name: str) -> str:
        """What stands for a host name; the same with and without its domain."""
        first = name.partition(".")[0]
        self._count("host name", first)
        return f"node-{self._digest('host', first)[:8]}"

    def _replaced(
        self, pattern: re.Pattern[str], kind: str, make: Callable[[str], str], text: str
    ) -> str:
        def replacement(match: re.Match[str]) -> str:
            self._count(kind, match[0].lower())
            return make(match[0].lower())

        return pattern.sub(replacement, text)

    def _uuid(self, value: str) -> str:
        digest = self._digest("uuid", value)
        ends = (8, 12, 16, 20, 32)
        return "-".join(digest[start:end] for start, end in zip((0, *ends), ends, strict=False))

    def _mac(self, value: str) -> str:
        digest = self._digest("mac", value)
        return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])

    def _learn_serials(self, values: Iterable[str]) -> None:
        for value in map(str.strip, values):
            if len(value) >= _SHORTEST and value.lower() not in _NO_SERIAL and value.strip("0"):
                digest = int(self._digest("serial", value), 16)
                self._known[value] = f"{digest % 10 ** len(value):0{len(value)}d}"
                self._count("serial number", value)

    def _learn_number(self, number: int) -> None:
        """In both spellings. The first digit is not 0, so that the length stays."""
        if not number or number.bit_length() < 20:
            return
        made = int(self._digest("unique", str(number))[:15], 16) | 1 << 63
        self._known[f"{number:016x}"] = self._known[f"{number:x}"] = f"{made:x}"
        self._known[f"0x{number:016x}"] = self._known[f"0x{number:x}"] = f"0x{made:x}"
        self._known[str(number)] = str(made)
        self._count("unique id", str(number))

    def _count(self, kind: str, value: str) -> None:
        mark = f"{kind}:{value}"
        if mark not in self._counted:
            self._counted.add(mark)
            self.counts[kind] += 1

    def _digest(self, kind: str, value: str) -> str:
        return hashlib.sha256(f"{self.key}\0{kind}\0{value}".encode()).hexdigest()


def identities(texts: Iterable[str]) -> str:
    """A key for a Redactor where there is no machine id: every UUID in the texts."""
    return " ".join(sorted({uuid.lower() for text in texts for uuid in _UUID.findall(text)}))


def _is_name(name: str) -> bool:
    return len(name) > 2 and name != "localhost"
