"""Sandboxed templates, answer files, boot scripts and their validation: plain data in, text out."""
