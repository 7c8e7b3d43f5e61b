"""DHCP: dnsmasq as a watched child, or the configuration for a server that somebody else runs."""
