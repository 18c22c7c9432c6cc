import pytest
import torch

from training.lookahead import Lookahead


def layer(value):
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(value)
    return module


def test_pulls_nothing_at_first_and_most_near_the_end():
    module = layer(0.0)
    lookahead = Lookahead(module)
    module.weight.data.fill_(1.0)
    lookahead.pull(0.0)
    assert module.weight.item() == 1
    module.weight.data.fill_(2.0)
    lookahead.pull(1.0)
    assert module.weight.item() == pytest.approx(2 - 0.95**5)
    assert lookahead.slow["weight"].item() == module.weight.item()


def test_finish_takes_the_slow_weights():
    module = layer(3.0)
    lookahead = Lookahead(module)
    module.weight.data.fill_(4.0)
    lookahead.finish()
    assert module.weight.item() == 3
