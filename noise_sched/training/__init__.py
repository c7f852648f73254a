"""Training: state, train step, optimizers, moving average, layout, checkpoints, loop.

Nothing here knows of data or of diffusion. A loss is `loss_fn(params, key, batch) -> (loss,
metrics)`, a batch a tree of arrays whose first axis is the batch.

    learning_rate   steps to rates: warm-up and decay
    optimizers      lamb, adamw, adam, with the published exclusions
    ema             the moving average of the parameters
    power_ema       several of power-function shape, and others of any width after the fact
    snapshots       what is kept of these for that
    state           TrainState: all that a run carries from step to step
    partitioning    the mesh, and what lies where on it
    step            the compiled train step with its guards
    checkpoints     saving, restoring, and living with damage
    metrics         scalars and pictures to TensorBoard and JSON lines
    progress        the progress line
    window          means of the metrics between two lines of the log
    loop            fit: all of the above in a loop
"""
