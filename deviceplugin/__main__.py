"""`python -m deviceplugin`."""

from deviceplugin.cli import main

main()
