"""Answers of a store of metrics, read from files as /api/v1/query_range gives them."""

from pathlib import Path

from deviceplugin.cost.series import NEEDED, QUERIES, Answers
from deviceplugin.errors import ConfigError
from deviceplugin.metrics.reply import NoMatrixError, Series, parse_matrix

MAX_BYTES = 512 << 20  # of one answer


def read_replies(directory: Path) -> Answers:
    """The answers by the name of their query; raises ConfigError. Those that are needed must be
    there, others were not asked."""
    missing = [name for name in NEEDED if not (directory / f"{name}.json").is_file()]
    if missing:
        text = f"a directory with {', '.join(f'{name}.json' for name in NEEDED)}"
        raise ConfigError("--replies", str(directory), text, reason=f"no {missing[0]}.json")
    paths = {name: directory / f"{name}.json" for name in QUERIES}
    return {name: _read(path) for name, path in paths.items() if path.is_file()}


def _read(path: Path) -> tuple[Series, ...]:
    text = "what /api/v1/query_range answers, a matrix"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError("--replies", str(path), f"an answer of at most {MAX_BYTES} bytes")
        return parse_matrix(path.read_bytes())
    except NoMatrixError as error:
        raise ConfigError("--replies", str(path), text, reason=str(error) or text) from error
    except (OSError, ValueError) as error:
        raise ConfigError("--replies", str(path), text, reason=f"{text} ({error})") from error
