"""``photonic study``: the experiments of arXiv 2402.02593."""

from __future__ import annotations

import click

from photonic.cli.activations import activations_command, study_report_command
from photonic.cli.gradient import gradient_error_command

study_group = click.Group(
    name="study",
    help="The studies of activations under analog noise (arXiv 2402.02593).",
    commands=[activations_command, gradient_error_command, study_report_command],
)
