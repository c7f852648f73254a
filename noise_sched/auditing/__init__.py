"""The audit of a training and a sampling set-up: its numbers, its text and its picture.

What is known to go wrong is `noise_sched.experiment.rules`; here it is reported, with the numbers it is
judged by.
"""
