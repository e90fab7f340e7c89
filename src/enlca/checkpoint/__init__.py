"""Checkpoints: one `.safetensors` file with the network's settings inside, loaded strictly."""
