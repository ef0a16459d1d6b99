"""The parts that crystal graph networks are made of: segment sums, messages, convolution. Each once.

Atoms are rows of (N, F); an edge goes from its neighbour j to its centre i, and edges are sorted by centre.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgcnn import distributed
from cgcnn.batch_norm import BatchNorm, batch_statistics
from cgcnn.precision import full


def segment_sum(values: Tensor, segment: Tensor, count: int) -> Tensor:
    """Sum of the rows of each segment: values (E, F), segment (E,) in 0 … count−1 → (count, F)."""
    values = full(values)
    return values.new_zeros((count, *values.shape[1:])).index_add_(0, segment, values)


def segment_mean(values: Tensor, segment: Tensor, sizes: Tensor) -> Tensor:
    """Mean of the rows of each segment: values (N, F), segment (N,), sizes (B,) → (B, F)."""
    sums = segment_sum(values, segment, len(sizes))
    return sums / sizes.to(sums.dtype)[:, None]


def segment_softmax(scores: Tensor, segment: Tensor, count: int) -> Tensor:
    """Softmax over the members of each segment: scores (N, …), segment (N,) → weights (N, …)."""
    scores = full(scores)
    index = segment.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    top = scores.new_full((count, *scores.shape[1:]), -torch.inf).scatter_reduce_(0, index, scores.detach(), "amax")
    weights = (scores - top[segment]).exp()
    return weights / segment_sum(weights, segment, count)[segment]


class _GatedMessages(torch.autograd.Function):
    """Σ_j σ(x̂_f)·softplus(x̂_s), where x̂ is x = a_i + b_j + W u_ij, batch-normalised where there is a norm.

    One function rather than ten, because on a CPU this is bound by memory: it keeps one (E, 2F) tensor for the
    way back, and goes through it in blocks that stay in the cache, with the same scratch memory for each.
    """

    @staticmethod
    def forward(ctx, centre_part, neighbour_part, edges, edge_weight, weight, bias, centres, neighbours, norm):
        x = centre_part.new_empty(len(edges), centre_part.shape[1])
        for block in _blocks(x):
            part = torch.index_select(centre_part, 0, centres[block], out=x[block])
            part += neighbour_part.index_select(0, neighbours[block])
            part.addmm_(edges[block], edge_weight.t())
        if norm is None:
            mean, inverse_std, rows = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]), 0.0
            weight, bias = inverse_std, mean
        else:
            mean, variance, rows = batch_statistics(x, norm)
            inverse_std = (variance + norm.eps).rsqrt()
        scale = weight * inverse_std
        shift = bias - mean * scale
        width = x.shape[1] // 2
        out = x.new_zeros(len(centre_part), width)
        for block, y in _with_scratch(x):
            torch.addcmul(shift, x[block], scale, out=y)
            out.index_add_(0, centres[block], functional.softplus(y[:, width:]).mul_(y[:, :width].sigmoid_()))
        ctx.save_for_backward(x, edges, edge_weight, weight, bias, centres, neighbours, mean, inverse_std)
        ctx.has_norm, ctx.rows = norm is not None, rows
        return out

    @staticmethod
    def backward(ctx, grad_out):
        x, edges, edge_weight, weight, bias, centres, neighbours, mean, inverse_std = ctx.saved_tensors
        scale = weight * inverse_std
        shift = bias - mean * scale
        width = x.shape[1] // 2
        grad = torch.empty_like(x)
        sum_grad, sum_grad_x = torch.zeros_like(mean), torch.zeros_like(mean)
        for block, y in _with_scratch(x):
            dy = grad[block]
            torch.addcmul(shift, x[block], scale, out=y)
            core = functional.softplus(y[:, width:])
            gate, slope = y.sigmoid_()[:, :width], y[:, width:]
            incoming = grad_out.index_select(0, centres[block]).mul_(gate)
            torch.mul(incoming, slope, out=dy[:, width:])
            incoming.mul_(core)
            torch.addcmul(incoming, incoming, gate, value=-1, out=dy[:, :width])
            sum_grad += dy.sum(0)
            sum_grad_x += torch.mul(dy, x[block], out=y).sum(0)
        grad_scale = (sum_grad_x - mean * sum_grad) * inverse_std
        # through the mean and variance of the batch: dx = scale·(dy − ⟨dy⟩ − x̂·⟨dy·x̂⟩)
        through = 1.0 / ctx.rows if ctx.rows else 0.0
        of_all = distributed.summed(torch.stack([grad_scale, sum_grad])) if through else (grad_scale, sum_grad)
        slope_x = -through * of_all[0] * inverse_std
        constant = -through * of_all[1] - slope_x * mean
        grad_centre, grad_neighbour = x.new_zeros(2, len(grad_out), 2 * width)
        grad_weight = torch.zeros_like(edge_weight.t())
        grad_edges = torch.empty_like(edges) if ctx.needs_input_grad[2] else None
        for block, dx in _with_scratch(x):
            if through:
                torch.addcmul(constant, x[block], slope_x, out=dx).add_(grad[block])
            else:
                dx = grad[block]
            grad_centre.index_add_(0, centres[block], dx)
            grad_neighbour.index_add_(0, neighbours[block], dx)
            grad_weight.addmm_(edges[block].t(), dx)
            if grad_edges is not None:
                torch.mm(dx.mul_(scale), edge_weight, out=grad_edges[block])
        grads = (grad_centre.mul_(scale), grad_neighbour.mul_(scale), grad_edges, grad_weight.mul_(scale).t())
        of_norm = (grad_scale, sum_grad) if ctx.has_norm else (None, None)
        return *grads, *of_norm, None, None, None


# Edges a block: (2048, 128) floats are 1 MB and stay in a core's cache. A GPU takes all at once.
_BLOCK = 2048


def _blocks(x: Tensor) -> list[slice]:
    step = _BLOCK if x.device.type == "cpu" else max(len(x), 1)
    return [slice(k, k + step) for k in range(0, len(x), step)]


def _with_scratch(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Each block, and memory of its shape to write on, the same for all."""
    scratch = None
    for block in _blocks(x):
        if scratch is None:
            scratch = torch.empty_like(x[block])
        yield block, scratch[: len(x[block])]


def gated_messages(
    layer: nn.Linear,
    atoms: Tensor,
    edges: Tensor,
    centres: Tensor,
    neighbours: Tensor,
    norm: nn.BatchNorm1d | None = None,
) -> Tensor:
    """Σ_j σ(W_f z_ij)·softplus(W_s z_ij), z_ij = v_i ⊕ v_j ⊕ u_ij, with a norm of both before they are activated.

    layer: W_f and W_s in one of 2F outputs; its parts that act on v_i and v_j are applied once an atom, not once an
    edge. atoms (N, F), edges (E, K), centres and neighbours (E,) → (N, F).
    """
    width = atoms.shape[1]
    on_centre, on_neighbour, on_edge = layer.weight.split([width, width, edges.shape[1]], dim=1)
    parts = functional.linear(atoms, on_centre, layer.bias), functional.linear(atoms, on_neighbour), edges
    scales = (None, None) if norm is None else (norm.weight, norm.bias)
    with torch.autocast(atoms.device.type, enabled=False):
        return _GatedMessages.apply(*map(full, parts), on_edge, *scales, centres, neighbours, norm)


class GatedConvolution(nn.Module):
    """v_i ← softplus(v_i + BN(Σ_j σ(BN(W_f z_ij))·softplus(BN(W_s z_ij)))), z_ij = v_i ⊕ v_j ⊕ u_ij.

    Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), eq. 5, with the batch normalisation of its code.
    Parameter names are the original code's.
    """

    def __init__(self, atom_fea_len: int, nbr_fea_len: int) -> None:
        super().__init__()
        self.fc_full = nn.Linear(2 * atom_fea_len + nbr_fea_len, 2 * atom_fea_len)
        self.bn1 = BatchNorm(2 * atom_fea_len)
        self.bn2 = BatchNorm(atom_fea_len)

    def forward(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """atoms (N, F), edges (E, K), centres and neighbours (E,) → (N, F)."""
        summed = gated_messages(self.fc_full, atoms, edges, centres, neighbours, self.bn1)
        return functional.softplus(atoms + self.bn2(summed))


class EdgeUpdate(nn.Module):
    """u_ij ← u_ij + W softplus(A v_i + B v_j + C u_ij + c): edges that learn what they join."""

    def __init__(self, atom_fea_len: int, nbr_fea_len: int) -> None:
        super().__init__()
        self.on_centre = nn.Linear(atom_fea_len, nbr_fea_len, bias=False)
        self.on_neighbour = nn.Linear(atom_fea_len, nbr_fea_len, bias=False)
        self.on_edge = nn.Linear(nbr_fea_len, nbr_fea_len)
        self.out = nn.Linear(nbr_fea_len, nbr_fea_len)

    def forward(self, atoms: Tensor, edges: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """atoms (N, F), edges (E, K), centres and neighbours (E,) → (E, K)."""
        hidden = self.on_edge(edges) + self.on_centre(atoms)[centres] + self.on_neighbour(atoms)[neighbours]
        return edges + self.out(functional.softplus(hidden))
