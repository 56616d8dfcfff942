"""How a model is loaded, as options that the commands share; pytest's own are in `circuit_claims.plugins`."""

import argparse

from circuit_claims.option_checks import BOS

DTYPES = ("float32", "float64", "bfloat16", "float16")


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Add --device, --dtype and --weights."""
    add = parser.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    add("--dtype", default="float32", choices=DTYPES, help="of the weights (float32)")
    add("--weights", default="processed", choices=["raw", "processed"], help="as for pytest (processed)")


def add_bos(parser: argparse.ArgumentParser) -> None:
    """Add --bos, which is auto, yes or no, and pytest's two switches for the same."""
    add = parser.add_argument
    add("--bos", default="auto", choices=list(BOS), help="whether prompts begin with BOS (as the tokenizer does)")
    add("--prepend-bos", action="store_const", dest="bos", const="yes", help="the same as --bos yes")
    add("--no-prepend-bos", action="store_const", dest="bos", const="no", help="the same as --bos no")
