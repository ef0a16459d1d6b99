"""Learning rates against those of torch's own schedulers."""

import pytest
import torch
from torch.optim import lr_scheduler

from cgcnn.schedules import SCHEDULES, Schedule


def of_torch(make, steps: int, lr: float = 0.01) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_step():
    schedule = Schedule("step", 0.01, 80, milestones=(3, 5), gamma=0.2)
    expected = of_torch(lambda o: lr_scheduler.MultiStepLR(o, [3, 5], gamma=0.2), 8)
    assert [schedule(epoch) for epoch in range(8)] == pytest.approx(expected)
    assert Schedule()(99.9) == 0.01 and Schedule()(100) == pytest.approx(0.001)


@pytest.mark.parametrize("t_max", [None, 7])
def test_cosine(t_max):
    schedule = Schedule("cosine", 0.01, 20, t_max=t_max, eta_min=1e-4)
    expected = of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, t_max or 20, eta_min=1e-4), 20)
    assert [schedule(epoch) for epoch in range(20)] == pytest.approx(expected, abs=1e-9)


def test_one_cycle():
    """torch counts the last step as the end, and the lowest rate from the first one: lr/25/400 is our lr/10⁴."""
    epochs, steps = 10, 100
    schedule = Schedule("one-cycle", 0.01, epochs)
    expected = of_torch(
        lambda o: lr_scheduler.OneCycleLR(
            o, 0.01, total_steps=steps + 1, pct_start=31 / 101, final_div_factor=400, cycle_momentum=False
        ),
        steps,
    )
    assert [schedule(epochs * step / steps) for step in range(steps)] == pytest.approx(expected)
    assert schedule(epochs) == pytest.approx(1e-6)


def test_inverse_square_root_of_the_steps():
    """Half of the rate after 3·T steps, whatever the epoch is."""
    schedule = Schedule("inverse_sqrt_nowarmup", 0.0005, 500)
    assert schedule(0) == 0.0005
    assert schedule(7.5, 4000) == pytest.approx(0.0005 / 2**0.5)
    assert schedule(0, 12_000) == schedule(300, 12_000) == pytest.approx(0.00025)
    assert Schedule("inverse_sqrt_nowarmup", 1.0, decay_steps=5)(0, 15) == 0.5
    expected = of_torch(lambda o: lr_scheduler.LambdaLR(o, lambda t: (5 / (5 + t)) ** 0.5), 8)
    schedule = Schedule("inverse_sqrt_nowarmup", 0.01, decay_steps=5)
    assert [schedule(0, t) for t in range(8)] == pytest.approx(expected)


def test_const():
    assert {Schedule("const", 0.03, 10)(epoch, 9 * epoch) for epoch in range(10)} == {0.03}


@pytest.mark.parametrize("kind", ["step", "cosine", "const"])
def test_only_one_cycle_moves_within_an_epoch(kind):
    schedule = Schedule(kind, epochs=10, milestones=(2,))
    assert all(schedule(epoch + part) == schedule(epoch) for epoch in range(10) for part in (0.2, 0.99))
    one_cycle = Schedule("one-cycle", epochs=10)
    assert one_cycle(2.5) != one_cycle(2)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 80])
def test_rates_stay_between_zero_and_the_highest(kind, epochs):
    schedule = Schedule(kind, 0.05, epochs)
    rates = [schedule(epoch / 10) for epoch in range(10 * epochs)]
    assert all(0 < rate <= 0.05 * (1 + 1e-9) for rate in rates)
