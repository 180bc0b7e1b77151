"""What leaves the process besides the kubelet's API: files and the metrics endpoint."""
