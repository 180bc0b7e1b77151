"""`python -m deviceplugin.testing.conformance`."""

from deviceplugin.testing.conformance.command import main

raise SystemExit(main())
