"""What is spoken over HTTP: the boot plane, media and the admin plane, each an application of its own."""
