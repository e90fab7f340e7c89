"""Training: typed configuration, the loop, what it saves and shows. Lightning Fabric spreads it."""
