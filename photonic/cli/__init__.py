"""The command line: ``photonic COMMAND``."""

from photonic.cli.bench import bench_command
from photonic.cli.calibrate import calibrate_command, verify_command
from photonic.cli.doctor import doctor_command
from photonic.cli.explain import explain_command
from photonic.cli.group import Photonic
from photonic.cli.profile import profile_command
from photonic.cli.report import report_command
from photonic.cli.study import study_group
from photonic.cli.train import train_command

main = Photonic(
    name="photonic",
    help="A photonic accelerator, simulated or real, behind a PyTorch network.",
    commands=[
        train_command,
        doctor_command,
        explain_command,
        profile_command,
        report_command,
        calibrate_command,
        verify_command,
        bench_command,
        study_group,
    ],
)

__all__ = ["main"]
