"""The mathematics: how much noise, when, and the way back.

Knows no network, no config and no file; imports jax only. Read in this order:

    schedules       t -> logSNR                       (t = 0 is clean, t = 1 is noise)
    process         logSNR -> NoiseLevel(alpha, sigma), and x_t = alpha x0 + sigma eps; vp, ve, flow
    parametrization what the network's output means   -> Prediction(x0, eps)
    input_scale     what the network's input is multiplied by
    conditioning    what the network is conditioned on
    weighting, loss training
    denoiser, guidance, thresholding, solvers, grids, sampling    sampling
    clocks          the variable in which the ODE solvers step
    specs           "sigmoid(-3, 3, tau=0.9)" -> the object
"""
