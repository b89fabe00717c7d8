"""The keys of result.json, as a JSON schema (draft 2020-12): this is their documentation.

`schema` is raised when a key changes its meaning or goes; new keys may come without it.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(about: str, required: Schema, optional: Schema | None = None, closed: bool = True) -> Schema:
    return {
        "type": "object",
        "description": about,
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
        "additionalProperties": not closed,
    }


def _list(about: str, items: Schema) -> Schema:
    return {"type": "array", "description": about, "items": items}


def _(about: str, *types: str) -> Schema:
    return {"type": list(types) if len(types) > 1 else types[0], "description": about}


_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def _share(about: str, or_null: bool = False) -> Schema:
    return {**_SHARE, "type": ["number", "null"] if or_null else "number", "description": about}


METRICS = _object(
    "how close a reconstruction came; pixels in [0, 1], scored by index; failures are scored as the prior's guess",
    {},
    {
        "mse": _("mean squared error, mean over images", "number"),
        "exact_images": _("images of which every pixel is exact", "integer"),
        "mse_median": _("median over images", "number"),
        "mse_iqr": _list("first and third quartile over images", {"type": "number"}),
        "psnr": _("dB, median over images, each capped at 99", "number"),
        "ssim": _("structural similarity, mean over at most 1000 images drawn by seed", "number"),
        "exact_pixels": _share("share of pixels that are exact after rounding"),
        "labels_right": _share("share of labels that are right"),
        "relative_error": _("Frobenius, of a Gram matrix", "number"),
        "solved_at_step": _("training step whose message made it possible", "integer", "null"),
        "samples": {**_COUNT, "description": "samples attacked"},
        "failures": {**_COUNT, "description": "samples for which the attack found nothing"},
    },
)

LEARNED = _object(
    "one thing that a party knows, computed from its view",
    {
        "party": _("whose view", "string"),
        "quantity": _("the label under which it crossed, or samples, labels, master key", "string"),
        "of": _("whose it is, or of how many samples", "string"),
        "how": {"enum": ["clear", "exact", "bounded", "nothing"], "description": "crossed in the clear; determined and solved "
                "for; constrained; no more than ciphertexts"},
        "detail": _("the derivation in words", "string"),
        "since_round": _("training step since when, 0 for before or in the first", "integer", "null"),
        "data": _("numbers behind it, such as the rank after each step", "object"),
    },
)  # fmt: skip

PRIOR = _object(
    "what the adversary is assumed to know besides its view",
    {
        "x_max": _("pixels are integers in [0, x_max]", "integer"),
        "shape": _list("of an image: rows, columns and, in colour, channels", {"type": "integer"}),
        "public_images": {**_COUNT, "description": "images of the same distribution that it knows"},
        "period": _("of lp's smoothness rows", "integer"),
        "threshold": _("of lp's smoothness rows, in steps of this data set's pixels", "number"),
        "known_samples": _("training samples that the adversary knows", "integer"),
    },
    closed=False,
)

ATTACK = _object(
    "one attack on the joint view of some parties",
    {
        "attack": _("its name, with _", "string"),
        "corrupted": _list("whose views it was handed", {"type": "string"}),
        "applicable": _("whether the view holds what it needs", "boolean"),
        "why": _("why not, if not", "string"),
        "samples": {**_COUNT, "description": "samples attacked"},
        "seconds": {**_SECONDS, "description": "in the adversary's process"},
        "prior": PRIOR,
        "metrics": METRICS,
        "baseline": _object(
            "the same metrics without the secret",
            {},
            {
                "guess": {**METRICS, "description": "the best guess from the prior alone"},
                "swapped": {**METRICS, "description": "the attack's output scored against another sample"},
                "projection": {
                    **METRICS,
                    "description": "least-norm correction of a constant image onto the equations",
                },
            },
        ),
        "notes": _(
            "what the attack says of itself, such as feasible, relaxed and infeasible images; NAME_per_image: a value for each "
            "image, where they are few",
            "object",
        ),
    },
    {
        "figure": _("picture of originals and rebuilt images, relative to the run folder", "string"),
        "first_success": _(
            "with --when: the first message after which the attack succeeds, for any sample and for all",
            "object",
        ),
        "controls": _(
            "with --controls: what the attack scores on runs with other secrets, swapped and ideal", "object"
        ),
        "preset": _("the preset that named the attack and its coalition, if one did", "string"),
    },
)

CONFIG = _object(
    "every option with its value, and what follows from the data",
    {
        "name": _("data set: digits, mnist, cifar10 or the path of an npz", "string"),
        "data_dir": _("folder of its files", "string", "null"),
        "gray": _("whether colour images were turned gray", "boolean"),
        "samples": _("training samples asked for; null for all", "integer", "null"),
        "seed": _("of the shuffles of the data, derived from the run's seed or drawn; gives no key", "integer"),
        "split": {"enum": ["iid", "label"], "description": "how the owners share the samples"},
        "features": _("n, pixels of an image", "integer"),
        "classes": _("k", "integer"),
        "x_max": _("pixels are integers in [0, x_max]", "integer"),
        "counts": _list("training samples of each owner", {"type": "integer", "minimum": 1}),
        "layers": _list("widths above the input; the first is h", {"type": "integer", "minimum": 1}),
        "activation": {"enum": ["relu", "sigmoid"], "description": "between layers"},
        "loss": {"enum": ["ce", "bce"], "description": "softmax with cross-entropy, or a sigmoid per class with binary "
                 "cross-entropy"},
        "batch": _("B, samples in a batch", "integer"),
        "epochs": _("passes over the data", "integer"),
        "lr": _("learning rate", "number"),
        "momentum": _("of SGD", "number"),
        "scheme": {"enum": ["lwe", "ddh"], "description": "what protects the samples, where the protocol encrypts"},
        "group": _("group of ddh and febo", "string"),
        "labels": {"enum": ["clear", "febo"], "description": "how labels reach the cloud"},
        "gradient": {"enum": ["owner", "fe"], "description": "who computes dW1"},
        "weight_scale": _("fixed-point steps per unit of W1 and dZ1; 0 for no rounding", "integer"),
        "weight_bound": _("bound on |W1| and |dZ1|", "number"),
        "label_scale": _("fixed-point steps per unit of a probability under FEBO", "integer"),
        "runtime": {"enum": ["ray", "inline"], "description": "parties in processes of their own, or all in one"},
        "record": {"enum": ["full", "headers"], "description": "payloads in the transcripts, or headers and digests only"},
    },
    {
        "first": _("a first convolution such as conv:6x5x5, below `layers`; empty for none", "string"),
        "shape": _list("rows, columns and, in colour, channels of an image", {"type": "integer", "minimum": 1}),
    },
    closed=False,  # a protocol to come brings options of its own
)  # fmt: skip

HEAD_CONFIG = _object(
    "every option of a run with an encrypted head, and what follows from the data and the base",
    {
        **{name: CONFIG["properties"][name] for name in
           ("name", "data_dir", "gray", "seed", "split", "x_max", "counts", "runtime", "record")},
        "classes": _("k, the first classes of the data set", "integer"),
        "shape": _list("of an image: rows, columns and, in colour, channels", {"type": "integer"}),
        "pool": _("the base averages pixels in squares of this side", "integer"),
        "features": _("d, features that the base gives", "integer"),
        "base": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the base"},
        "task_classes": _("as classes", "integer"),
        "shots": _("the owner's samples of every class", "integer"),
        "queries": _("held-out images that were asked about", "integer"),
        "batch": _("queries in a message", "integer"),
        "form": _("fractional bits and bounds of the integers of weights and features", "object"),
        "recipe": _("how the head was trained: steps, lr, init, hidden, protect, clip, sigma, level", "object"),
        "release": {"enum": ["none", "decision", "logits"], "description": "what went back to the server"},
        "encoding": {"enum": ["int", "float"], "description": "integers with one exponent, or phe's floats, which leak theirs"},
        "key_bits": _("bits of the modulus", "integer"),
        "toy": _("whether the key protects nothing: in tests only", "boolean"),
    },
    closed=False,
)  # fmt: skip

HEAD = _object(
    "what is measured of an encrypted head",
    {
        "queries": {**_COUNT, "description": "decisions that the consumer was told"},
        "refused": {**_COUNT, "description": "of them, those whose result exceeded its bound"},
        "argmax_agreement": _share("share of decisions that are those of the head in float, in the clear"),
        "bytes": _object("sizes", {
            "ciphertext": {**_COUNT, "description": "one ciphertext"},
            "head": {**_COUNT, "description": "the message that carried the encrypted head"},
            "answer": {**_COUNT, "description": "what the server sends for a query"}}),
        "milliseconds": _object("mean time of a query, in batches", {
            name: {**_SECONDS, "description": about} for name, about in (
                ("server", "features, encrypted logits, blinding; by the clock"), ("server_processor", "the same, processor time"),
                ("authority", "decryption and decision; by the clock"), ("authority_processor", "the same, processor time"))}),
    },
)  # fmt: skip

RESULT_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        "result.json of a run",
        {
            "schema": {"const": 1, "description": "version of these keys"},
            "scenario": _("name of the scenario, with _", "string"),
            "protocol": _("name of the protocol, with _", "string"),
            "security": {
                "type": "object",
                "description": "what the run's security rests on, one line each: protocol, scheme, labels, coins",
                "required": ["protocol", "coins"],
                "additionalProperties": {"type": "string"},
            },
            "seed": _("null: coins from the operating system", "integer", "null"),
            "config": {"anyOf": [CONFIG, HEAD_CONFIG], "description": "every option with its value: of training, or of an encrypted head"},
            "versions": {
                "type": "object",
                "description": "of Python, keyhole and the libraries that results rest on",
                "required": ["keyhole", "python", "ray", "torch"],
                "additionalProperties": {"type": "string"},
            },
            "transcript_digest": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 over all messages in "
                                  "script order"},
            "accuracy": _object(
                "of the weights at the end; measured by the scorer, never by a party",
                {
                    "train": _share("on the training samples"),
                    "test": _share("on held-out samples; null without any", or_null=True),
                    "baseline_test": _share("of the same training without protection or rounding", or_null=True),
                    "seconds_by_epoch": _list("training seconds until the weights of each epoch were there, measuring accuracy included", _SECONDS),
                    "test_by_epoch": _list("test accuracy after each epoch", _share("null without held-out samples", or_null=True)),
                },
            ),
            "seconds": _object(
                "wall-clock",
                {
                    "total": {**_SECONDS, "description": "everything"},
                    "setup": {**_SECONDS, "description": "processes, keys, encryption and upload"},
                    "train": {**_SECONDS, "description": "from the end of the first step to the end of the last"},
                    "attack": {**_SECONDS, "description": "attacks and their scoring"},
                    "report": {**_SECONDS, "description": "digest, traffic, who learned what, training of the baseline"},
                },
            ),
            "steps": {**_COUNT, "description": "training steps"},
            "traffic": _list(
                "messages between two roles under one label",
                _object("an edge", {"sender": _("role", "string"), "receiver": _("role", "string"), "label": _("label", "string"),
                                    "messages": {**_COUNT, "description": "how many"},
                                    "bytes": {**_COUNT, "description": "of their payloads"}}),
            ),
            "parties": {
                "type": "object",
                "description": "messages and payload bytes of each party",
                "additionalProperties": _object("a party", {
                    f"{what}_{way}": {**_COUNT, "description": f"{what} that it has {way}"}
                    for what in ("messages", "bytes") for way in ("sent", "received")}),
            },
            "learned": _list("who learned what", LEARNED),
            "attacks": _list("attacks that were asked for", ATTACK),
        },
        {
            "malicious": _list("parties that deviated from the protocol, if any did", _object("one", {
                "party": _("which", "string"), "deviation": _("in what", "string"),
                "steps": {**_COUNT, "description": "local steps that were replaced"},
                "step": _("the local step in place of the protocol's, as the transcript names it", "string")})),
            "head": HEAD,
            "published": _object("what a paper reports for the experiment of a preset; not measured here", {
                "accuracy": _share("on held-out samples"), "minutes": _("of training", "number"), "what": _("of what", "string"),
                "source": _("where", "string")}),
        },
    ),
}  # fmt: skip

_AMOUNTS: Schema = {
    "type": "object",
    "description": "seconds, and messages and bytes from role to role",
    "required": ["seconds"],
    "additionalProperties": {"type": "number", "minimum": 0},
}


def _maybe(schema: Schema, about: str) -> Schema:
    return {**schema, "type": [schema["type"], "null"], "description": about}


def _growing(about: str) -> Schema:
    return _object(
        about,
        {"fixed": {**_AMOUNTS, "description": "once"}, "each": {**_AMOUNTS, "description": "by sample"}},
    )


COST = _object(
    "what the parts of a run cost, measured on a few steps of the same protocol, network and images; the whole run is then "
    "setup + warm_up + uploads x upload.fixed + samples x upload.each + steps x step.fixed + rows x step.each + averages x average",
    {
        "measured": _list(
            "runs of a few steps, the largest batch last",
            _object("one", {"batch": {**_COUNT, "description": "samples in a batch"},
                            "samples": {**_COUNT, "description": "samples uploaded"},
                            "setup_seconds": {**_SECONDS, "description": "processes and keys"},
                            "upload_seconds": {**_SECONDS, "description": "encryption and upload"},
                            "step_seconds": _list("each step; the last one counts", _SECONDS)}),
        ),
        "counts": _object("how often each part of the whole run occurs", {
            "uploads": {**_COUNT, "description": "chunks of samples"},
            "samples": {**_COUNT, "description": "samples uploaded"},
            "steps": {**_COUNT, "description": "steps, those of each owner counted"},
            "rows": {**_COUNT, "description": "samples in all of these steps"},
            "averages": {**_COUNT, "description": "copies averaged"}}),
        "setup": {**_AMOUNTS, "description": "processes, keys, first weights"},
        "warm_up": {**_AMOUNTS, "description": "what the first step takes longer"},
        "upload": _growing("encryption and upload"),
        "step": _growing("a step of one owner"),
        "average": {**_AMOUNTS, "description": "of one owner's copy in a round; empty without", "required": []},
    },
)  # fmt: skip

COMPARED = _object(
    "one run of a comparison",
    {
        "name": _("unique in the comparison, such as plain-fe lwe", "string"),
        "scenario": _("name of the scenario, with _", "string"),
        "protocol": _("name of the protocol, with _", "string"),
        "scheme": _("lwe, ddh or fhipe; null where nothing is encrypted", "string", "null"),
        "status": {"enum": ["done", "extrapolated", "failed"], "description": "whether it was run"},
        "extrapolated": _("true: not run; seconds, messages and bytes follow from `cost`, and there is no accuracy", "boolean"),
        "why": _("why it was extrapolated or failed; empty if done", "string"),
        "run": _("its run folder, from the comparison's folder or as given; null if there is none", "string", "null"),
        "security": _("scheme and level, or that there is none", "string"),
        "security_lines": {"type": "object", "description": "as in result.json", "additionalProperties": {"type": "string"}},
        "seed": _("null: none, or not known", "integer", "null"),
        "config": {"type": ["object", "null"], "description": "as in result.json; null if the options were refused"},
        "accuracy": _object("as in result.json", {
            "test": _share("on held-out samples", or_null=True),
            "train": _share("on the training samples", or_null=True),
            "baseline_test": _share("of the same training without protection", or_null=True)}),
        "seconds": _object("as in result.json", {
            **{name: _maybe(_SECONDS, name) for name in ("setup", "train", "attack", "report", "total")},
            "per_step": _maybe(_SECONDS, "a training step, on average")}),
        "steps": _maybe(_COUNT, "training steps, which are the rounds of messages"),
        "messages": _maybe(_COUNT, "messages sent"),
        "bytes": _maybe(_COUNT, "their payload bytes"),
        "edges": _list("messages between two roles", _object("an edge", {
            "sender": _("role", "string"), "receiver": _("role", "string"),
            "messages": {**_COUNT, "description": "how many"}, "bytes": {**_COUNT, "description": "of their payloads"}})),
        "learned": _list("as in result.json without `data`; of an extrapolated run, what crossed in the clear",
                         {**LEARNED, "required": [name for name in LEARNED["required"] if name != "data"]}),
        "attacks": _list("attacks that were asked for", _object("one", {
            "attack": _("its name, with _", "string"),
            "corrupted": _list("whose views it was handed", {"type": "string"}),
            "applicable": _("whether the view holds what it needs", "boolean"),
            "why": _("why not, if not", "string"),
            "samples": {**_COUNT, "description": "samples attacked"},
            "metrics": METRICS,
            "guess": {**METRICS, "description": "the same metrics of the best guess without the view"}})),
        "ignored": _list("given options that mean nothing to this protocol", {"type": "string"}),
        "cost": {**COST, "type": ["object", "null"]},
    },
)  # fmt: skip

COMPARE_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        "compare.json of a comparison",
        {
            "schema": {"const": 1, "description": "version of these keys"},
            "seed_drawn": _(
                "whether the seed was drawn for the comparison, because none was given", "boolean"
            ),
            "rows": _list("the runs", COMPARED),
            "differences": {
                "type": "object",
                "description": "options in which the runs differ, with the value of each run by its name",
                "additionalProperties": {"type": "object"},
            },
            "notes": _list("what a reader has to know besides, in words", {"type": "string"}),
        },
    ),
}
