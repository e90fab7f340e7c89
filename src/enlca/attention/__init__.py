"""Attention over whole images: exact (Eq. 1), linear (Eq. 4-6) and its contrastive loss (Eq. 8-10)."""
