"""The audit of `make audit`: known vulnerabilities of what is shipped, and patterns in our code."""
