"""The kubelet's side: the DevicePlugin servers, their registration, and who holds what."""
