"""Pictures for training and testing: pairs, packs, patches, degradations, downloads."""
