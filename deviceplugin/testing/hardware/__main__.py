"""The check as a program."""

import sys

from deviceplugin.testing.hardware.command import main

if __name__ == "__main__":
    sys.exit(main())
