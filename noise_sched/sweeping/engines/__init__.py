"""Running a sweep's cells in other processes, here or on a cluster: thin layers over what does the work.

jobs        what is run: a command for each model, which may be killed and run again
local       processes on this machine
slurm       one array job, through submitit
on_ray      tasks of a Ray cluster, or of Ray on this machine
"""
