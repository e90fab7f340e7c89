"""Checkpoints: one `.safetensors` file with the network's settings inside, loaded strictly."""

# The bundled model that is used where none is named.
DEFAULT_MODEL = "enlcn-light"
# The model for photographs, and the one that it was trained on from.
PHOTO, BASE = "photo", "enlcn-light"
