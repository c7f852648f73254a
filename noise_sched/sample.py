r"""Draws images with a trained model; needs nothing but its workdir.

    python -m noise_sched.sample --workdir=runs/digits --num_images=1000 --out=runs/digits/samples
    python -m noise_sched.sample --workdir=runs/digits --num_images=50 --out=/tmp/sevens \
        --config.sample.classes='(7,)' --config.sample.steps=20 --config.sample.solver='ddpm()'

Writes samples.npz (images uint8 [n, h, w, c], labels int32 [n]), images/000000.png ..., grid.png and
samples.json, which says what they were drawn with; of more than 10,000 images shards/00000.npz ... in place
of the first two, and a killed run goes on after the last whole shard. Image i depends on config.sample.seed
and i alone (to rounding), whatever the batch size. A finished run is not done again.

On several hosts start it on each, as training: all draw, the first writes.
"""

import jax
from absl import flags, logging

from noise_sched import command_line
from noise_sched.experiment import sampler, samples, workdir


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    with command_line.clear_errors():
        folder = command_line.folder("workdir", "--workdir=runs/digits")
        out = command_line.folder("out", "--out=runs/digits/samples")
        workdir.load_config(folder)
        step = command_line.step()
        command_line.join_hosts()
        config = flags.FLAGS.config
        drawn = sampler.run(config, folder, out, flags.FLAGS.num_images, step)
        if jax.process_index() != 0:
            return
        print(f"{'drawn' if drawn else 'already drawn'}: {samples.place(out)}")
        print(f"to look at: {out / 'grid.png'}")


def _define_flags() -> None:
    """--config.sample.KEY changes the workdir's own config, which therefore is read first."""
    flags.DEFINE_string("workdir", None, "The folder that training wrote.")
    flags.DEFINE_integer("num_images", 100, "How many images.", lower_bound=1)
    flags.DEFINE_string("out", None, "Folder to write to: new, or of the same command.")
    command_line.define_step()
    command_line.define_hosts()
    command_line.define_workdir_config("workdir")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
