"""What every room stands on: files, devices and memory, threads."""
