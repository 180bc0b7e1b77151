"""A kubelet and an API server that judge: what a DRA driver does, held against a checklist."""
