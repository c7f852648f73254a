"""What the commands share: flags, config files, and mistakes reported in one message.

flags            --workdir=DIR, --config.KEY=VALUE
config_files     --config=FILE.py:VARIANT
sweep_files      --sweep=FILE.py:VARIANT
joining          --distributed
memory           freed memory is kept
"""

from noise_sched.command_line.flags import arguments as arguments
from noise_sched.command_line.flags import check_local as check_local
from noise_sched.command_line.flags import check_path as check_path
from noise_sched.command_line.flags import clear_errors as clear_errors
from noise_sched.command_line.flags import config as config
from noise_sched.command_line.flags import config_overrides as config_overrides
from noise_sched.command_line.flags import define_config as define_config
from noise_sched.command_line.flags import define_config_file as define_config_file
from noise_sched.command_line.flags import define_step as define_step
from noise_sched.command_line.flags import define_sweep_file as define_sweep_file
from noise_sched.command_line.flags import define_workdir_config as define_workdir_config
from noise_sched.command_line.flags import folder as folder
from noise_sched.command_line.flags import how_to_draw as how_to_draw
from noise_sched.command_line.flags import out_folder as out_folder
from noise_sched.command_line.flags import parse as parse
from noise_sched.command_line.flags import peek as peek
from noise_sched.command_line.flags import required as required
from noise_sched.command_line.flags import run as run
from noise_sched.command_line.flags import say as say
from noise_sched.command_line.flags import step as step
from noise_sched.command_line.flags import stop as stop
from noise_sched.command_line.joining import define_hosts as define_hosts
from noise_sched.command_line.joining import join_hosts as join_hosts
