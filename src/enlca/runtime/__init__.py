"""The base of all rooms: files, devices and memory, threads."""
