"""Super-resolution networks as alternations of local stages (convolutions) and global ones (attention)."""
