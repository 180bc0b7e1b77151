"""The metrics endpoint: series, their text, and the HTTP server."""
