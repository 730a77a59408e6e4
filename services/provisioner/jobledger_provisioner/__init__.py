"""The provisioner service: clusters that exist because somebody asked for them. `app` puts it together, `routes` is how it is spoken to."""
