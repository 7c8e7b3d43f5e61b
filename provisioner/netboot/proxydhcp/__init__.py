"""Proxy DHCP: boot information beside somebody else's DHCP server, never an address."""
