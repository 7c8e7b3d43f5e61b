"""What DHCP servers are told, each in its own words."""
