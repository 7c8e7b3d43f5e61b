"""Decisions without I/O: frozen data in, data out."""
