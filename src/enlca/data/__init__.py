"""Pictures for training and testing: packed sets, patches, benchmark pairs."""
