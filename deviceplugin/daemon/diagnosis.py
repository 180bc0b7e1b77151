"""How the daemon has its node diagnosed: by the command, with its own settings."""

import sys
from collections.abc import Sequence

from deviceplugin.config.config import Config


def diagnose_command(config: Config) -> Sequence[str]:
    """The command line that looks at the node as this daemon does."""
    flags = {
        "node-name": config.node_name,
        "host-root": config.host_root,
        "kubelet-dir": config.kubelet_dir,
        "cdi-dir": config.cdi_dir,
        "state-dir": config.state_dir,
        "config": config.source.path if config.source else None,
        "vendors": ",".join(config.vendors) if config.vendors else None,
        "trusted-dirs": ",".join(config.trusted_dirs) or None,
    }
    given = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    given += ["--allow-unsupported"] if config.allow_unsupported else []
    return (sys.executable, "-P", "-m", "deviceplugin", "diagnose", "--format=json", *given)
