"""One Kubernetes device plugin daemon per node for every GPU on it."""
