"""``python -m photonic.cli`` is ``photonic``."""

from photonic.cli import main

main(prog_name="photonic")
