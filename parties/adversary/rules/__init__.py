"""What follows from relations, rule by rule: a rank, and a solution for some samples to prove it. Each rule
is cheap.

* `opened`: a master key that the view holds opens ciphertexts.
* `by_keys`: n independent keys determine every sample, and the master key; fewer bound each pixel between two
  linear programs.
* `across_keys`, `combined`: combinations of the samples of a batch determine them while the rank of their
  weights is its size.
* `known_maps`: Z = W X^T with W known, by an average, a public seed or a corrupted owner, are equations.
* `changed`: W - W' = sum_u a_u dZ_u^T X_u between two known maps; with dZ h equations for each pixel, without
  it the span.
* `alone`: whole rows of such changes, samples that alone moved a unit.
* `pruned`: what owners left of their changes, and what units give of it that one sample alone moved.
* `unmasked`: copies that crossed under masks which the view holds.
* `followed`: how W moved, for whoever has the samples and dZ.
* `hidden`: Z with W unknown, and from its changes the inner products of the samples (`gram`).
* `contrasted`: sums of a batch by class, from gradients at weights of zero (`class_sums`).
* `differenced`: gradients of linear models on a batch give X^T X, whose whole root is the batch (`moments`).
* `unopened`: ciphertexts without their key, and what was looked for in them.
* `labelled`: labels that follow from several messages together, and numbers that depend on labels.
* `inverted`: gradients of whole networks and trained networks, which no rule solves: it names the attacks.
* `shifted`: labels by how the bias of the outputs moved.

That averaging and split learning leak updates is known; the equations are this project's derivation. What is
said to be exact was solved for.
"""

from __future__ import annotations

from parties.adversary.rules.alone import alone, pruned
from parties.adversary.rules.ciphertexts import by_keys, combined, known_keys, opened
from parties.adversary.rules.maps import changed, followed, hidden, known_products, unmasked
from parties.adversary.rules.networks import inverted, shifted
from parties.adversary.rules.statements import contrasted, differenced, labelled, stated, unopened
from parties.adversary.rules.told import Rule, Sight, Told, covers, runs_of

__all__ = ["RULES", "Rule", "Sight", "Told", "covers", "runs_of"]

RULES: tuple[Rule, ...] = (
    opened,
    by_keys,
    combined,
    changed,
    alone,
    pruned,
    unmasked,
    followed,
    known_products,
    known_keys,
    hidden,
    labelled,
    stated,
    contrasted,
    differenced,
    unopened,
    inverted,
    shifted,
)
