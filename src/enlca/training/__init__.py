"""Training on Lightning: typed configuration, the step, its callbacks, `fit`."""
