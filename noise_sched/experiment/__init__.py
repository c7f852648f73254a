"""An experiment: what a config chooses, built from its strings and judged by the rules.

ranges            what every key of a config may be
build             config -> objects
hyper             the numbers of a training, which a grid may vary
loss, training    the pure step of an experiment, and its first state
rules             what is known to go wrong: an error refuses a config, an audit says all
workdir, locks    one run's folder
sampler, samples  images from a trained model, and a folder of them
keys              seeds -> random keys, one for each purpose
"""

from noise_sched.experiment.build import facts_of as facts_of
from noise_sched.experiment.build import from_config as from_config
from noise_sched.experiment.build import parameter_count as parameter_count
from noise_sched.experiment.experiment import Experiment as Experiment
from noise_sched.experiment.loss import NO_CLASS as NO_CLASS
from noise_sched.experiment.ranges import ConfigError as ConfigError
