"""From pictures to larger pictures: the `Upscaler`, and jobs over many files."""
