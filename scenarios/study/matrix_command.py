"""`keyhole matrix`: reverse homomorphic encryption, every defence against every attack, in one command."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.language.errors import ConfigError
from scenarios.show.terminal import console, reported

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
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the result.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each row.")] = False,
) -> None:
    """Attack the heads of reverse HE under every defence: accuracy beside the true positive rate, ROC curves, rebuilt images."""
    with reported():
        from parties.data.datasets import DataSpec
        from scenarios.run.folder import free_path, write_json
        from scenarios.study.matrix import matrix as measure
        from scenarios.study.matrix import name_of
        from scenarios.study.matrix_bench import MatrixOptions
        from scenarios.study.matrix_files import table, write_matrix

        drawn = secrets.randbits(31) if seed is None else seed
        spec = DataSpec(name=dataset, data_dir=None if data_dir is None else str(data_dir), seed=drawn)
        options = MatrixOptions(
            spec=spec, base=base, shots=shots, victims=victims, shadows=shadows, encrypted_shadows=encrypted_shadows,
            asked_victims=asked, queries=_numbers("--queries", queries, int), real_queries=real_queries,
            epsilons=_numbers("--epsilon", epsilon, float), key_bits=key_bits, net=net, seed=drawn,
        )  # fmt: skip
        if min(options.queries) < FEWEST:
            raise ConfigError(f"--queries: expected budgets of at least {FEWEST}, got {queries}")
        silent = as_json or quiet or not sys.stderr.isatty()

        def observe(row: dict[str, Any]) -> None:
            if not silent:
                print(name_of(row), file=sys.stderr)

        folder = free_path(out, "matrix")
        found = measure(options, observe)
        folder.mkdir(parents=True, exist_ok=True)
        names = write_matrix(folder, found)
        content = {
            "schema": 1,
            "scenario": "matrix",
            "protocol": "reverse_he",
            "seed": drawn,
            **found.plain(),
        }
        write_json(folder / "result.json", content)
        if as_json:
            print(json.dumps(content, indent=1))
        else:
            console().print(table(found))
            print(f"{folder}/   result.json · {' · '.join(names)}")


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    try:
        found = tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"{option}: expected numbers such as 10,40, got {text!r}") from None
    if not found or min(found) <= 0:
        raise ConfigError(f"{option}: expected positive numbers, got {text!r}")
    return found
