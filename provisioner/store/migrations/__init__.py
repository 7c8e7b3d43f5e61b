"""Schema changes, in order; `provisioner.store.schema` runs them."""
