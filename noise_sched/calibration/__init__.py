"""From the images alone: the input scale b that a resolution asks for."""

from noise_sched.calibration.calibration import Calibration as Calibration
from noise_sched.calibration.calibration import calibrate as calibrate
from noise_sched.calibration.calibration import calibrate_batches as calibrate_batches
