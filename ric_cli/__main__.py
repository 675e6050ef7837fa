"""`python -m ric_cli`."""

from ric_cli.main import main

main()
