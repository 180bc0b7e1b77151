"""Our program beside the vendor's own tools on a machine with real GPUs, and a capture of it.

`python -m deviceplugin.testing.hardware` (`make hardware`) changes no setting of the machine.
"""
