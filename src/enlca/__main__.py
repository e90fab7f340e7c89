"""`python -m enlca` is the command `enlca`."""

from enlca.cli import main

main()
