"""Checkpoints: one `.safetensors` file with the network's settings inside, loaded strictly."""

# The bundled model that is used where none is named.
DEFAULT_MODEL = "enlcn-tiny"
