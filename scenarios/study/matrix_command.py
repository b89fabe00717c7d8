"""`keyhole matrix`: reverse homomorphic encryption, every defence against every attack, in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protocols.language.errors import ConfigError
from scenarios.show.terminal import console, progress_of, reported

FEWEST = 500  # decisions with which a black box finds boundary points at all


def matrix(
    dataset: Annotated[str, typer.Option("--dataset", help="mnist | digits | FILE.npz")] = "mnist",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of the data set's files.")
    ] = None,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Private images of each class.")] = 1,
    victims: Annotated[int, typer.Option("--victims", min=30, help="Heads that are attacked.")] = 250,
    shadows: Annotated[
        int, typer.Option("--shadows", min=100, help="Heads that the adversary trains itself.")
    ] = 10_000,
    encrypted_shadows: Annotated[
        int, typer.Option("--encrypted-shadows", min=10, help="Of them, those that it encrypts as well.")
    ] = 1000,
    asked: Annotated[int, typer.Option("--asked", min=4, help="Victims that decisions are asked of.")] = 24,
    queries: Annotated[
        str, typer.Option("--queries", help="Budgets of decisions, a list.")
    ] = "2000,10000,50000",
    real_queries: Annotated[
        int, typer.Option("--real-queries", min=200, help="Through real ciphertexts, of one victim.")
    ] = 500,
    epsilon: Annotated[str, typer.Option("--epsilon", help="Of DP-SGD, a list.")] = "160,40,10,2",
    key_bits: Annotated[int, typer.Option("--key-bits", help="3072, or 2048 on request.")] = 3072,
    base: Annotated[
        Path | None, typer.Option("--base", help="A base of yours: a state dict (.pt) or features (.npz).")
    ] = None,
    net: Annotated[
        bool, typer.Option("--net/--no-net", help="The small conv net beside ridge regression.")
    ] = True,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of victims and shadows; drawn if not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the result; one that was begun goes on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Attack the heads of reverse HE under every defence: accuracy, true positive rates, pictures."""
    with reported():
        from parties.data.datasets import DataSpec
        from scenarios.study.head_views import MatrixOptions
        from scenarios.study.matrix import matrix as measure
        from scenarios.study.matrix import rates_table, row_count
        from scenarios.study.study import begun, numbers

        budgets = numbers("--queries", queries, int, FEWEST)
        epsilons = numbers("--epsilon", epsilon, float, 0.0)
        if not min(epsilons) > 0:
            raise ConfigError(f"--epsilon: expected positive numbers, got {epsilon!r}")
        asked_for = {
            "dataset": dataset, "data_dir": None if data_dir is None else str(data_dir), "shots": shots,
            "victims": victims, "shadows": shadows, "encrypted_shadows": encrypted_shadows, "asked": asked,
            "queries": budgets, "real_queries": real_queries, "epsilon": epsilons, "key_bits": key_bits,
            "base": None if base is None else str(base), "net": net, "seed": seed,
        }  # fmt: skip
        folder, settings = begun("matrix", out, asked_for, seed_bits=31)
        drawn = settings["seed"]
        options = MatrixOptions(
            spec=DataSpec(name=dataset, data_dir=settings["data_dir"], seed=drawn), base=base, shots=shots,
            victims=victims, shadows=shadows, encrypted_shadows=encrypted_shadows, asked_victims=asked,
            queries=budgets, real_queries=real_queries, epsilons=epsilons, key_bits=key_bits, net=net,
            seed=drawn,
        )  # fmt: skip
        with progress_of(row_count(options), silent=as_json or quiet) as observe:
            content = measure(options, folder, settings, observe)
        if as_json:
            print(json.dumps(content, indent=1))
        else:
            console().print(rates_table(content))
            print(f"{folder}/   result.json · matrix.csv · roc.png · rebuilt.png")
