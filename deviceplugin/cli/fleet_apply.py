"""Writes advice about the daemon's own configuration as one more file of it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from deviceplugin.advice.values import Advice
from deviceplugin.config.files import config_files, read_config_files
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError


def apply(advice: Advice, directory: Path) -> str:
    """Write the patch as `advice-ID.yaml`, if the configuration is valid with it and says nothing
    else about the same keys; raises ConfigError. What was done, in words."""
    taken = sorted(advice.patch.keys() & read_config_files(directory).raw.keys())
    if taken:
        text = f"a configuration without {', '.join(taken)}: put the patch into it by hand"
        raise ConfigError("--apply", advice.id, text)
    name = f"advice-{advice.id}.yaml"
    words = f"# {advice.kind}, {advice.subject}\n# {advice.text}\n"
    content = words + yaml.safe_dump(dict(advice.patch), sort_keys=False)
    with TemporaryDirectory() as scratch:
        for file in config_files(directory):
            (Path(scratch) / file.name).write_bytes(file.read_bytes())
        (Path(scratch) / name).write_text(content, encoding="utf-8")
        load({"config": scratch})
    try:
        (directory / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError("--config", str(directory), "", reason=str(error)) from error
    return f"wrote {directory / name}; delete it to take it back"
