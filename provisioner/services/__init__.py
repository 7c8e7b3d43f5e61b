"""The use cases, one transaction each; every door comes in here."""
