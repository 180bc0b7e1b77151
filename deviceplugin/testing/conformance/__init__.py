"""A kubelet that judges: what a device plugin does on its sockets, held against a checklist.

`python -m deviceplugin.testing.conformance --kubelet-dir DIR` runs it against any plugin.
"""
