"""The provisioner service: clusters that exist because somebody asked for them."""
