"""Networks by name, and the two classes of the original code under their public names and call shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cgcnn.crystalformer import Crystalformer, CrystalformerConfig
from cgcnn.csgnn import CSGANN, CSGCNN, CSGINN, CSGANNConfig, CSGConfig
from cgcnn.ecnet import ECNet, ECNetConfig
from cgcnn.layers import GatedConvolution as ConvLayer
from cgcnn.network import CrystalGraphBody, CrystalGraphNetwork, NetworkConfig
from cgcnn.tasks import TaskSet

__all__ = [
    "MODELS",
    "ConvLayer",
    "CrystalGraphConvNet",
    "CrystalGraphConvNetMulti",
    "build_model",
]

# --model offers these: name → (network, its configuration)
MODELS: dict[str, tuple[type[nn.Module], type]] = {
    "cgcnn": (CrystalGraphNetwork, NetworkConfig),
    "csgcnn": (CSGCNN, CSGConfig),
    "csgann": (CSGANN, CSGANNConfig),
    "csginn": (CSGINN, CSGConfig),
    "ecnet": (ECNet, ECNetConfig),
    "crystalformer": (Crystalformer, CrystalformerConfig),
}


def build_model(name: str, config: Mapping, tasks: TaskSet, elements: Tensor) -> nn.Module:
    """A network of the registry. config: the fields of its configuration; elements (119, F₀) vectors."""
    network, configuration = MODELS[name]
    return network(configuration(**config), tasks, elements)


class _ClassicNet(CrystalGraphBody):
    """What the two classes share: the classic call shape, (N, F₀), (N, M, K), (N, M), [(n_b,)] of each crystal."""

    def __init__(
        self, config: NetworkConfig, orig_atom_fea_len: int, nbr_fea_len: int, heads: Mapping[str, int]
    ) -> None:
        super().__init__(config, orig_atom_fea_len, nbr_fea_len)
        for name, width in heads.items():
            setattr(self, name, nn.Linear(config.h_fea_len, width))

    def crystal_vectors(
        self, atom_fea: Tensor, nbr_fea: Tensor, nbr_fea_idx: Tensor, crystal_atom_idx: list[Tensor]
    ) -> Tensor:
        """→ (B, H). Every atom has M neighbours here, padding included, as in the original graphs."""
        num_atoms = torch.tensor([len(index) for index in crystal_atom_idx], device=atom_fea.device)
        crystal = torch.arange(len(num_atoms), device=atom_fea.device).repeat_interleave(num_atoms)
        centres = torch.arange(len(atom_fea), device=atom_fea.device).repeat_interleave(nbr_fea.shape[1])
        atoms = self.atoms(atom_fea, nbr_fea.flatten(0, 1), centres, nbr_fea_idx.flatten())
        return self.crystals(atoms, crystal, num_atoms)


class CrystalGraphConvNet(_ClassicNet):
    """The original single-task network; its published state dictionaries load as they are."""

    def __init__(
        self,
        orig_atom_fea_len: int,
        nbr_fea_len: int,
        atom_fea_len: int = 64,
        n_conv: int = 3,
        h_fea_len: int = 128,
        n_h: int = 1,
        classification: bool = False,
    ) -> None:
        config = NetworkConfig(
            atom_fea_len, h_fea_len, n_conv, n_h, readout="classic", dropout=0.5 if classification else 0.0
        )
        super().__init__(config, orig_atom_fea_len, nbr_fea_len, {"fc_out": 2 if classification else 1})
        self.classification = classification

    def forward(self, *graph) -> Tensor:
        """→ (B, 1), or log-probabilities (B, 2)."""
        out = self.fc_out(self.crystal_vectors(*graph))
        return out.log_softmax(dim=1) if self.classification else out


class CrystalGraphConvNetMulti(_ClassicNet):
    """One regression and one classification from a shared body."""

    def __init__(
        self,
        orig_atom_fea_len: int,
        nbr_fea_len: int,
        atom_fea_len: int = 64,
        n_conv: int = 3,
        h_fea_len: int = 128,
        n_h: int = 1,
        num_classes: int = 2,
        pooling: str = "mean",
    ) -> None:
        config = NetworkConfig(atom_fea_len, h_fea_len, n_conv, n_h, pooling=pooling)
        heads = {"fc_regression": 1, "fc_classification": num_classes}
        super().__init__(config, orig_atom_fea_len, nbr_fea_len, heads)

    def forward(self, *graph) -> tuple[Tensor, Tensor]:
        """→ E_form (B, 1), defect_logits (B, C)."""
        crystals = self.crystal_vectors(*graph)
        return self.fc_regression(crystals), self.fc_classification(crystals)
