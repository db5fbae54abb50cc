"""``python -m photonic.cli`` is ``photonic``."""

from photonic.cli import main

if __name__ == "__main__":  # the workers of a study import it again
    main(prog_name="photonic")
