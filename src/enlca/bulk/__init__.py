"""Pictures of a bucket or a tree, by the million: a manifest, workers, and outputs that are written once."""
