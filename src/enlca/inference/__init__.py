"""From LR to SR pictures: the `Upscaler`, and jobs over many files."""
