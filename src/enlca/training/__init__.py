"""Training: typed configuration, the loop, the run folder; on many devices by Lightning Fabric."""
