"""What firmware speaks besides HTTP: TFTP and DHCP."""
