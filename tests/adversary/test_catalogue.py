"""Attacks by name and from a user's file."""

from textwrap import dedent

import numpy as np
import pytest

from parties.adversary.catalogue import ATTACKS, find_attack, load_attack
from protocols.language.errors import ConfigError
from tests.adversary.common import rebuilt

OWN = '''
    """Least squares on the first equations of each sample, as a user would write it."""

    import numpy as np

    from parties.adversary.attack import Quantity, Reconstruction
    from protocols.language.relations import Equations, now

    NAME = "least_norm"
    SUMMARY = "the least-norm solution of what one step says of a sample"
    CONSUMES = (Equations,)


    def solve(relations, prior, rng):
        index, values = [], []
        for seen in relations.of(Equations):
            x = now(seen.values) @ np.linalg.pinv(now(seen.a)).T / prior.x_max
            index.append(seen.samples)
            values.append(np.clip(x, 0.0, 1.0))
            if len(index) == 3:
                break
        return Reconstruction(Quantity.IMAGES, np.concatenate(index), np.vstack(values))
'''


def test_an_attack_in_a_file_of_its_own_runs_like_all_others(runs, tmp_path):
    (tmp_path / "mine.py").write_text(dedent(OWN))
    run, _ = runs(hidden=40)
    found = rebuilt(run, str(tmp_path / "mine.py"))
    assert sorted(found.index) == list(range(48)) and np.isfinite(found.values).all()


def test_what_a_file_lacks_is_named(tmp_path):
    (tmp_path / "half.py").write_text("NAME = 'half'\nCONSUMES = ()\n")
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(ConfigError, match="lacks SUMMARY, solve"):
        load_attack(tmp_path / "half.py")
    with pytest.raises(ConfigError, match="cannot be imported: ModuleNotFoundError"):
        load_attack(tmp_path / "broken.py")
    with pytest.raises(ConfigError, match="no such file"):
        find_attack(str(tmp_path / "absent.py"))


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_says_what_it_consumes(name):
    attack = find_attack(name)
    assert name == attack.NAME and attack.SUMMARY and attack.CONSUMES and callable(attack.solve)
