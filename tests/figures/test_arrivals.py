"""Public keys and parameters that arrive are those of this run, or they are refused."""

from dataclasses import replace

import pytest

from protocols.crypto import febo, fhipe
from protocols.crypto.coins import Coins
from protocols.language.errors import MalformedError
from protocols.language.state import State
from protocols.network.config import Labels
from protocols.parts import hiding, keys, labels
from tests.conftest import TINY, small


def kept(config, step, *args):
    """What a party holds after a step that keeps something."""
    state = State(config=config, held={})
    step(state, *args)
    return state.held


def test_a_public_key_for_other_bounds_is_refused():
    config = small("plain_fe").config
    own, other = (keys.parameters(some) for some in (config, replace(config, x_max=17)))
    scheme = keys.scheme_of(config)
    assert kept(config, keys.keep_key, "x", scheme.setup(own, Coins(bytes(32)))[0])
    with pytest.raises(MalformedError, match="other parameters"):
        kept(config, keys.keep_key, "x", scheme.setup(other, Coins(bytes(32)))[0])


def test_a_public_key_of_another_scheme_is_refused():
    config = small("plain_fe").config
    mpk, _ = febo.setup(febo.parameters(4, 4, "secp256k1"), Coins(bytes(32)))
    with pytest.raises(MalformedError, match="FeboPublicKey"):
        kept(config, keys.keep_key, "x", mpk)


def test_a_public_key_of_labels_in_another_group_is_refused():
    config = small("plain_fe", labels=Labels.FEBO).config
    mpk, _ = febo.setup(febo.parameters(config.label_scale, config.label_scale, "modp2048"), Coins(bytes(32)))
    with pytest.raises(MalformedError, match="other parameters"):
        kept(config, labels.keep_febo, mpk)


def test_a_hiding_instance_for_other_bounds_is_refused_by_owner_and_cloud():
    config = small("mitig1", **TINY).config
    pp, msk = fhipe.setup(hiding.parameters(replace(config, x_max=17)), Coins(bytes(32)))
    for step, arrived in ((hiding.keep_key, msk), (hiding.keep_instances, [pp])):
        with pytest.raises(MalformedError, match="other parameters"):
            kept(config, step, arrived)
