"""Dictionaries that a sparse autoencoder has to beat: what its numbers could be by luck, or without any training for sparsity.

Each has `encode`, `decode` and `W_dec`, as sae-lens's autoencoders have, and is put in the place of one with
`LoadedSae.with_dictionary`. All are given more than the autoencoder has: the coefficients of the random dictionary are the best
there are for the directions it chose, and the principal components are those of the very text they are measured on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.sae.loaded import LoadedSae


@dataclass(frozen=True)
class RandomDictionary:
    """As many directions as the autoencoder has features, at random; of each vector, the k that it points along most.

    W_dec: unit directions. mean: taken off first and given back.
    """

    W_dec: Float[Tensor, "d_sae d_model"]
    mean: Float[Tensor, " d_model"]
    k: int

    def encode(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """The k directions of the largest projections, with the coefficients of least squares."""
        centred = (x - self.mean).reshape(-1, x.shape[-1])
        projections = centred @ self.W_dec.T
        chosen = projections.topk(self.k, dim=-1).indices
        directions = self.W_dec[chosen]
        gram = directions @ directions.mT
        best = torch.linalg.solve(gram + 1e-6 * torch.eye(self.k, device=x.device), projections.gather(-1, chosen))
        return torch.zeros_like(projections).scatter(-1, chosen, best).reshape(*x.shape[:-1], -1)

    def decode(self, features: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_model"]:
        """The vectors that these features add up to."""
        return features @ self.W_dec + self.mean


@dataclass(frozen=True)
class PrincipalComponents:
    """As many principal components as the autoencoder has active features a token.

    W_dec: the components, of unit length. mean: of the stream that they were found on.
    """

    W_dec: Float[Tensor, "k d_model"]
    mean: Float[Tensor, " d_model"]

    def encode(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch k"]:
        """The vector's coordinates along the components."""
        return (x - self.mean) @ self.W_dec.T

    def decode(self, features: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch d_model"]:
        """The vectors that these coordinates are of."""
        return features @ self.W_dec + self.mean


@dataclass(frozen=True)
class OfShuffledModel:
    """The autoencoder of a shuffled model: one that computes the same, with the residual stream's coordinates in another order.

    Such a model's own autoencoder is the one at hand with its coordinates in that order: nothing need be trained.
    sae: the one at hand. order: where each coordinate of the shuffled model stands in this one's stream.
    """

    sae: Any
    order: Int[Tensor, " d_model"]

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_model"]:
        """The decoder, in the shuffled order."""
        return self.sae.W_dec[:, self.order]

    @property
    def cfg(self) -> Any:
        """The configuration of the one at hand."""
        return self.sae.cfg

    @property
    def run_time_activation_norm_fn_in(self) -> Callable[[Tensor], Any] | None:
        """How sae-lens remembers the scale of an input, where inputs are normalised one by one."""
        prepare = getattr(self.sae, "run_time_activation_norm_fn_in", None)
        return None if prepare is None else lambda x: prepare(x[..., self.order.argsort()])

    def encode(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """The features of what would be the shuffled model's stream."""
        return self.sae.encode(x[..., self.order.argsort()])

    def decode(self, features: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_model"]:
        """The shuffled model's stream."""
        return self.sae.decode(features)[..., self.order]


def random_dictionary(sae: LoadedSae, stream: Float[Tensor, "n d_model"], k: int, seed: int) -> LoadedSae:
    """A random dictionary of the autoencoder's size and L0.

    stream: the text's vectors, for their mean; k: active features a token.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(sae.n_features, stream.shape[-1], generator=generator).to(stream)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return sae.with_dictionary(RandomDictionary(directions, stream.mean(0), k), "a random dictionary")


def principal_components(sae: LoadedSae, stream: Float[Tensor, "n d_model"], k: int) -> LoadedSae:
    """The first k principal components of a stream."""
    from sklearn.decomposition import PCA

    found = PCA(n_components=k, svd_solver="full").fit(stream.double().cpu().numpy())
    components, mean = (torch.from_numpy(part).to(stream) for part in (found.components_, found.mean_))
    return sae.with_dictionary(PrincipalComponents(components, mean), "principal components")


def of_shuffled_model(sae: LoadedSae, seed: int) -> LoadedSae:
    """The autoencoder of the same model with its residual stream's coordinates shuffled."""
    order = torch.randperm(sae.sae.W_dec.shape[1], generator=torch.Generator().manual_seed(seed))
    return sae.with_dictionary(OfShuffledModel(sae.sae, order.to(sae.sae.W_dec.device)), "the SAE of a shuffled model")
