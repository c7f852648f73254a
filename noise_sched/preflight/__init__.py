"""Before a chip is paid for: a config's programs, compiled for a TPU slice, and what they take there.

chips       the slices that there are, and what a chip can do
programs    the training step and the sampler, compiled; memory
flops, hlo  operations, bytes and collectives, with loops counted
roofline    the least time that follows
fitting     what to change where it does not fit
text        all that in words
"""
