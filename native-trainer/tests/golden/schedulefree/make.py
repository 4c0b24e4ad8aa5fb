"""Remakes golden.json: 50 steps of schedulefree 1.4.1's AdamWScheduleFree, in f64.

    pip download --no-deps schedulefree==1.4.1 && tar xzf schedulefree-1.4.1.tar.gz
    python make.py schedulefree-1.4.1/schedulefree/adamw_schedulefree.py > golden.json

The package's own step(), train() and eval() run, from the file named; only the dozen tensor methods they call are stood in
for here, on plain Python floats, so that no PyTorch is needed.
"""

import contextlib
import json
import math
import struct
import sys
import types


def f32(x):
    """The nearest f32, as a float: inputs that the Rust side can hold exactly."""
    return struct.unpack("f", struct.pack("f", x))[0]


class Tensor:
    def __init__(self, values):
        self.values, self.grad, self.device = list(values), None, "cpu"

    def _other(self, other):
        return other.values if isinstance(other, Tensor) else [other] * len(self.values)

    def _set(self, values):
        self.values = list(values)
        return self

    def mul_(self, o):
        return self._set(a * b for a, b in zip(self.values, self._other(o)))

    def addcmul_(self, x, y, value):
        return self._set(a + value * b * c for a, b, c in zip(self.values, x.values, y.values))

    def div(self, o):
        return Tensor(a / b for a, b in zip(self.values, self._other(o)))

    def div_(self, o):
        return self._set(a / b for a, b in zip(self.values, self._other(o)))

    def sqrt_(self):
        return self._set(math.sqrt(a) for a in self.values)

    def add_(self, o, alpha=1):
        return self._set(a + alpha * b for a, b in zip(self.values, self._other(o)))

    def sub_(self, o, alpha=1):
        return self._set(a - alpha * b for a, b in zip(self.values, self._other(o)))

    def lerp_(self, end, weight):
        return self._set(a + weight * (b - a) for a, b in zip(self.values, end.values))

    def to(self, device):
        return self


class Optimizer:
    def __init__(self, params, defaults):
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        self.param_groups = [{**defaults, **group} for group in groups]
        self.state = {p: {} for group in self.param_groups for p in group["params"]}


def stand_in():
    torch = types.ModuleType("torch")
    torch.Tensor, torch.enable_grad = Tensor, contextlib.nullcontext

    class NoGrad(contextlib.ContextDecorator):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    torch.no_grad = NoGrad
    torch.preserve_format = None
    torch.clone = lambda t, memory_format=None: Tensor(t.values)
    torch.zeros_like = lambda t, memory_format=None: Tensor([0.0] * len(t.values))
    optim = types.ModuleType("torch.optim")
    optimizer = types.ModuleType("torch.optim.optimizer")
    optim.Optimizer = optimizer.Optimizer = Optimizer
    optim.optimizer = optimizer
    torch.optim = optim
    extensions = types.ModuleType("typing_extensions")
    extensions.TypeAlias = type
    sys.modules.update(
        {"torch": torch, "torch.optim": optim, "torch.optim.optimizer": optimizer, "typing_extensions": extensions}
    )


def main():
    stand_in()
    package = {}
    exec(compile(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1], "exec"), package)
    steps, warmup, lr = 50, 12, 0.02
    start = [[f32(math.sin(1.7 * i) + 0.1 * i) for i in range(5)], [f32(math.cos(0.9 * i)) for i in range(3)]]
    params = [Tensor(v) for v in start]
    groups = [
        {"params": [params[0]], "lr": lr, "weight_decay": 0.05},
        {"params": [params[1]], "lr": 0.5 * lr, "weight_decay": 0.0},
    ]
    optimizer = package["AdamWScheduleFree"](groups, lr=lr, warmup_steps=warmup, foreach=False)
    optimizer.train()
    grads = []
    for k in range(steps):
        grads.append(
            [[f32(math.sin(0.3 * k + i + 2.0 * n) * (1 + 0.1 * i)) for i in range(len(p.values))] for n, p in enumerate(params)]
        )
        for p, g in zip(params, grads[-1]):
            p.grad = Tensor(g)
        optimizer.step()
    y = [list(p.values) for p in params]
    z = [list(optimizer.state[p]["z"].values) for p in params]
    optimizer.eval()
    x = [list(p.values) for p in params]
    settings = {"learning_rate": lr, "warmup": warmup, "scales": [1.0, 0.5], "weight_decay": [0.05, 0.0]}
    json.dump({"settings": settings, "start": start, "grads": grads, "y": y, "z": z, "x": x}, sys.stdout)
    print()


main()
