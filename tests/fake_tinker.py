"""A Tinker server in memory: the interface of the client, over a tiny model that really computes."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save

from tieout.learner import AdapterConfig, load
from tieout.learner.tinker.connection import LINEAR
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler

BETAS, EPS = (0.9, 0.999), 1e-8


class Died(Exception):
    """The server is gone."""


class Future:
    def __init__(self, result: Callable[[], Any]) -> None:
        self._value = result()

    def result(self, timeout: float | None = None) -> Any:
        return self._value


@dataclass
class Weights:
    """An adapter with its AdamW."""

    values: dict[str, torch.Tensor]
    moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    steps: int = 0

    def copy(self, optimizer: bool = True) -> Weights:
        values = {n: x.clone() for n, x in self.values.items()}
        if not optimizer:
            return Weights(values)
        return Weights(values, {n: (a.clone(), b.clone()) for n, (a, b) in self.moments.items()}, self.steps)


class FakeTinker:
    """A `ServiceClient`. What it saves outlives it in `disk`: a new one over the same disk is a restarted server.

    `reduction`: sum, rows, row means, tokens, or `requests` (row means of each request alone). `dies`: verb -> how many
    calls of it are answered before the server is gone. `spoil`: changes a reply's log-probabilities. `stale`: samples
    come from the weights that were saved one time earlier.
    """

    def __init__(
        self, folder: Path, reduction: str = "row means", disk: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.reduction, self.disk = str(folder), reduction, {} if disk is None else disk
        self.dies: dict[str, int] = {}
        self.spoil: Callable[[list[float]], list[float]] = list
        self.stale = False
        self.alpha, self.dtype, self.names = 32.0, torch.float32, [self.folder]
        self.norms = True
        self.own: dict[
            str, float
        ] = {}  # of its optimizer, whatever is asked for: max_norm, decay, beta2, eps
        self.first: list[
            None
        ] = []  # what stands for the first token of a prompt: SkyRL's has nothing, others None
        self.calls: list[str] = []
        self.models = 0

    def called(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.dies and self.calls.count(verb) > self.dies[verb]:
            raise Died(f"gone at {verb}")

    def model(self, rank: int) -> Any:
        """One network for all that is computed, of which each adapter in turn takes the place."""
        return _loaded(self.folder, rank, self.alpha, 0)[0]

    # what the client has

    def get_server_capabilities(self) -> Any:
        self.called("get_server_capabilities")
        return SimpleNamespace(supported_models=[SimpleNamespace(model_name=name) for name in self.names])

    def create_lora_training_client(self, base_model: str, rank: int, seed: int) -> FakeTraining:
        self.called("create_model")
        self.models += 1
        fresh = Weights(_loaded(self.folder, rank, self.alpha, seed)[1]).copy()
        return FakeTraining(self, fresh, rank, f"model-{len(self.disk)}-{self.models}")

    def create_training_client_from_state(self, path: str, optimizer: bool = False) -> FakeTraining:
        self.called("load_state")
        if path not in self.disk:
            raise KeyError(f"Checkpoint not found: {path}")
        self.models += 1
        weights, rank = self.disk[path]
        return FakeTraining(self, weights.copy(optimizer), rank, f"model-{len(self.disk)}-{self.models}")

    def create_training_client_from_state_with_optimizer(self, path: str) -> FakeTraining:
        return self.create_training_client_from_state(path, optimizer=True)

    def create_sampling_client(self, model_path: str) -> FakeSampling:
        self.called("create_sampling_client")
        paths = [path for path in self.disk if "/weights/" not in path]
        before = paths[max(0, paths.index(model_path) - 1)]
        return FakeSampling(self, *self.disk[before if self.stale else model_path])

    def create_rest_client(self) -> Any:
        def url(run: str, name: str) -> Any:
            return Future(lambda: SimpleNamespace(url=f"tinker://{run}/{name}"))

        def delete(run: str, name: str) -> Any:
            return Future(lambda: self._delete(f"tinker://{run}/{name.removeprefix('sampler_weights/')}"))

        return SimpleNamespace(get_checkpoint_archive_url=url, delete_checkpoint=delete)

    def _delete(self, path: str) -> None:
        self.called("delete")
        del self.disk[path]

    def archive(self, path: str, seconds: float = 0.0) -> bytes:
        """In place of `connection.download`."""
        self.called("download")
        weights, rank = self.disk[path]
        model = self._with(weights, rank)
        tensors = {n: x.to(self.dtype) for n, x in get_peft_model_state_dict(model.network).items()}
        config = {"r": rank, "lora_alpha": self.alpha, "target_modules": None, "base_model_name_or_path": "x"}
        files = {
            "adapter_model.safetensors": save(tensors),
            "adapter_config.json": json.dumps(config).encode(),
        }
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"some/where/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    def _with(self, weights: Weights, rank: int) -> Any:
        model = self.model(rank)
        with torch.no_grad():
            for name, parameter in model.trained().items():
                parameter.copy_(weights.values[name])
        return model

    def logprobs(self, weights: Weights, rank: int, tokens: list[int], targets: list[int]) -> torch.Tensor:
        """[T] of each target, by a plain forward."""
        logits = self._with(weights, rank).network(input_ids=torch.tensor([tokens])).logits[0].float()
        return logits.log_softmax(-1).gather(-1, torch.tensor(targets)[:, None])[:, 0]


@cache
def _loaded(folder: str, rank: int, alpha: float, seed: int) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with a fresh adapter, and that adapter's weights."""
    model = load(folder, AdapterConfig(rank=rank, alpha=alpha), seed=seed)
    return model, {n: p.detach().clone() for n, p in model.trained().items()}


class FakeTraining:
    def __init__(self, server: FakeTinker, weights: Weights, rank: int, name: str) -> None:
        self.server, self.weights, self.rank, self.name = server, weights, rank, name
        self.rows: list[tuple[int, int, dict[str, torch.Tensor]]] = []  # request, targets, gradient
        self.requests = 0

    def _logprobs(self, row: Any) -> torch.Tensor:
        tokens, targets = (
            row.model_input.to_ints(),
            [int(x) for x in row.loss_fn_inputs["target_tokens"].data],
        )
        return self.server.logprobs(self.weights, self.rank, tokens, targets)

    def _reply(self, found: list[torch.Tensor]) -> Any:
        outputs = [{"logprobs": SimpleNamespace(data=self.server.spoil(x.tolist()))} for x in found]
        return SimpleNamespace(loss_fn_outputs=outputs, metrics={})

    def forward(self, rows: list[Any], loss: str) -> Future:
        self.server.called("forward")
        with torch.no_grad():
            return Future(lambda: self._reply([self._logprobs(row) for row in rows]))

    def forward_backward(self, rows: list[Any], loss: str) -> Future:
        self.server.called("forward_backward")
        assert loss == "importance_sampling"
        found = []
        self.requests += 1
        for row in rows:
            logprobs = self._logprobs(row)
            old, advantages = (
                torch.tensor(list(row.loss_fn_inputs[n].data)) for n in ("logprobs", "advantages")
            )
            assert len(old) == len(advantages) == len(logprobs)
            trained = self.server.model(self.rank).trained()
            value = -((logprobs - old).exp() * advantages).sum()
            gradient = torch.autograd.grad(value, list(trained.values()))
            self.rows.append((self.requests, len(logprobs), dict(zip(trained, gradient, strict=True))))
            found.append(logprobs.detach())
        return Future(lambda: self._reply(found))

    def _divisor(self, request: int, targets: int) -> float:
        kind, rows = self.server.reduction, len(self.rows)
        if kind == "requests":
            return targets * sum(own == request for own, _, _ in self.rows)
        every = sum(length for _, length, _ in self.rows)
        return {"sum": 1.0, "rows": rows, "row means": rows * targets, "tokens": every}[kind]

    def optim_step(self, adam: Any) -> Future:
        self.server.called("optim_step")
        given = (adam.beta1, adam.beta2, adam.eps)
        assert given in ((*BETAS, EPS), tuple(LINEAR.values())), "the two that were run against a real server"
        own = {
            "beta1": adam.beta1,
            "beta2": adam.beta2,
            "eps": adam.eps,
            "decay": adam.weight_decay,
        } | self.server.own
        one, two, eps = own["beta1"], own["beta2"], own["eps"]
        mine, self.weights.steps = self.weights, self.weights.steps + 1
        gradients = {
            name: sum((g[name] / self._divisor(r, t) for r, t, g in self.rows), torch.zeros_like(value))
            for name, value in mine.values.items()
        }
        total = math.sqrt(sum(float(x.square().sum()) for x in gradients.values()))
        for name, value in mine.values.items():
            gradient = gradients[name] * min(1.0, own.get("max_norm", math.inf) / (total or 1.0))
            first, second = mine.moments.get(name, (torch.zeros_like(value), torch.zeros_like(value)))
            first = one * first + (1 - one) * gradient
            second = two * second + (1 - two) * gradient.square()
            mine.moments[name] = first, second
            value.mul_(1 - adam.learning_rate * own["decay"])
            step = first / (1 - one**mine.steps)
            value.sub_(adam.learning_rate * step / ((second / (1 - two**mine.steps)).sqrt() + eps))
        self.rows = []
        metrics = {"skyrl.ai/grad_norm": total} if self.server.norms else {}
        return Future(lambda: SimpleNamespace(metrics=metrics))

    def save_state(self, name: str) -> Future:
        self.server.called("save_state")
        return self._save(f"tinker://{self.name}/weights/{name}")

    def save_weights_for_sampler(self, name: str) -> Future:
        self.server.called("save_weights_for_sampler")
        return self._save(f"tinker://{self.name}/{name}")  # as SkyRL writes it

    def _save(self, path: str) -> Future:
        assert path not in self.server.disk, "a name that was used is refused"
        self.server.disk[path] = self.weights.copy(), self.rank
        return Future(lambda: SimpleNamespace(path=path))


class FakeSampling:
    def __init__(self, server: FakeTinker, weights: Weights, rank: int) -> None:
        self.server, self.weights, self.rank = server, weights, rank

    def sample(self, prompt: Any, num_samples: int, sampling_params: Any) -> Future:
        self.server.called("sample")
        p = sampling_params
        assert 0 <= p.seed < p.seed + num_samples < 2**31
        model = self.server._with(self.weights, self.rank)
        params = SamplingParams(p.max_tokens, p.temperature, seed=p.seed)
        drawn = LocalSampler(model).sample([prompt.to_ints()], num_samples, params)[0]
        made = [
            SimpleNamespace(tokens=c.tokens, logprobs=self.server.spoil(list(c.logprobs or [])))
            for c in drawn
        ]
        return Future(lambda: SimpleNamespace(sequences=made))

    def compute_logprobs(self, prompt: Any) -> Future:
        self.server.called("compute_logprobs")
        ids = prompt.to_ints()
        with torch.no_grad():
            found = self.server.logprobs(self.weights, self.rank, ids[:-1], ids[1:])
        return Future(lambda: [*self.server.first, *found.tolist()])
