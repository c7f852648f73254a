"""Diffusers' scheduler files: what their classes are, what they say and what is wrong with them.

    fields       every class that is read: its fields, defaults and the values that they may have
    methods      every class that is another method, and what to use instead
    reader       one file: its fields, and what became of each
    paths        the steps of the classes that sample a table of betas
    samplers     their solvers and thresholds
    tables, sigmas, flow     the three families of classes -> a training and a sampling set-up
    judging      what the library itself does to a file

`noise_sched.interop.diffusers.reading` is the way in, `noise_sched.interop.diffusers.writing` the way back.
"""
