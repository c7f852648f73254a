"""Our choices as files: what is written reads as the same, and what no file says is refused."""

import pytest

from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.reading import load
from noise_sched.interop.diffusers.writing import CannotExpress, write

BASE = dict(
    schedule="discrete(scaled_linear())",
    process="vp()",
    parametrization="v()",
    input_scale="none()",
    conditioning="index(scaled_linear())",
    loss_space="v()",
    weight="uniform()",
    sample_schedule="scaled_linear()",
    grid="trailing()",
    solver="ddim()",
    threshold="none()",
)


def set_up(**changes):
    kinds = {"loss_space": "parametrization", "sample_schedule": "schedule"}
    made = {k: specs.build(v, kinds.get(k, k)) for k, v in (BASE | changes).items()}
    names = ("grid", "solver", "threshold")
    sampling = Sampling(made.pop("sample_schedule"), steps=20, **{k: made.pop(k) for k in names})
    return Objective(**made), sampling


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(solver="ddim(eta=1.0)"),
        dict(solver="ddpm('small')", threshold="static()"),
        dict(solver="ddpm('large', last_noise=True)"),
        dict(solver="ddpm()", grid="linspace()"),
        dict(threshold="static(keep_eps=True)"),
        dict(solver="dpm2(1.0)"),
        dict(solver="pndm()"),
        dict(solver="dpmpp(3)", threshold="dynamic(maximum=2.0)"),
        dict(solver="dpmpp(2, eta=1.0)"),
        dict(solver="unipc(3)"),
        dict(solver="euler_ancestral()"),
        dict(solver="heun()", grid="leading(offset=1)"),
        dict(
            schedule="discrete(from_betas((0.1, 0.2, 1.0)))",
            conditioning="index(from_betas((0.1, 0.2, 1.0)))",
            sample_schedule="from_betas((0.1, 0.2, 1.0))",
            grid="trailing(3)",
        ),
    ],
)
def test_ours_are_written(changes):
    objective, sampling = set_up(**changes)
    steps = 3 if "trailing(3)" in str(changes) else 20
    again = load(write(objective, sampling).config, steps)
    assert again.objective == objective
    assert again.sampling.schedule == sampling.schedule and again.sampling.grid == sampling.grid
    if "eta" not in changes.get("solver", "") or "dpmpp" in changes["solver"]:
        assert again.sampling.solver == sampling.solver
    assert again.sampling.threshold == sampling.threshold


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(schedule="sigmoid()"), "sigmoid.* is continuous"),
        (dict(process="vp(0.6)"), "process is vp\\(input_scale=0.6\\)"),
        (dict(input_scale="per_example_std()"), "input_scale"),
        (dict(conditioning="gamma()"), "conditioning is gamma"),
        (dict(parametrization="score()"), "no prediction_type for score"),
        (dict(sample_schedule="cosine()"), "sampling runs on cosine.*a file has one table"),
        (dict(grid="uniform()"), "takes other steps than uniform.*trailing"),
        (dict(grid="leading()", solver="dpmpp()"), "takes other steps than leading"),
        (dict(grid="linspace()", solver="euler()"), "takes other steps than linspace"),
        (dict(solver="heun(clock=by_angle())"), "another clock"),
        (dict(solver="euler(churn=10.0)"), "churn"),
        (dict(solver="dpmpp(eta=0.5)"), "eta is 0"),
        (dict(threshold="static()", solver="unipc()"), "does not clip"),
        (dict(threshold="dynamic(keep_eps=True)"), "needs a maximum"),
        (dict(threshold="static()"), "DDIMScheduler keeps eps where it bounds x0"),
        (dict(solver="ddpm()"), "adds noise to the finished image.*ddpm\\('small'\\)"),
        (dict(solver="pndm(3)"), "PNDMScheduler is pndm"),
        (
            dict(sample_schedule="karras()", grid="edm()", solver="dpmpp()"),
            "takes sigma_min = 0.029.* from the table",
        ),
        (dict(sample_schedule="karras()", grid="edm()"), "DDIMScheduler has no use_karras_sigmas"),
        (
            dict(
                schedule="discrete(zero_terminal(scaled_linear()))",
                conditioning="index(zero_terminal(scaled_linear()))",
                sample_schedule="zero_terminal(scaled_linear())",
                solver="heun()",
            ),
            "HeunDiscreteScheduler has no rescale_betas_zero_snr",
        ),
        (dict(parametrization="edm()"), "process is vp.* EDM has ve"),
        (dict(parametrization="flow()"), "process is vp.*has flow"),
    ],
)
def test_what_no_file_says_is_refused(changes, message):
    with pytest.raises(CannotExpress, match=message):
        write(*set_up(**changes))
