"""What is checked of the options that pytest and the other commands share."""

import argparse
from collections.abc import Iterable, Mapping, Sequence

#: Every IOI template in each order once. Where a few prompts differ much from the rest, fewer often show none of these, and
#: then even the corrected intervals miss the truth more often than they say (tests/chapters/test_few_prompts.py).
FEWEST_PROMPTS = 30
#: Whether prompts begin with BOS, by what `--bos` is told; None is as the tokenizer does.
BOS: dict[str, bool | None] = {"auto": None, "yes": True, "no": False}
#: What sets that: the value that each switch stands for, and None for the option that takes one.
BOS_SPELLINGS = {"--bos": None, "--prepend-bos": "yes", "--no-prepend-bos": "no"}
#: The largest seed: what every generator of random numbers takes (scikit-learn's are the narrowest).
MOST_SEED = 2**32 - 1


def contradiction(arguments: Sequence[str], options: Iterable[str], spellings: Mapping[str, str | None] | None = None) -> str:
    """One sentence where the command line gives an option two different values; empty where it does not.

    argparse would silently take the last.

    arguments: the command line as it was typed, without defaults from a configuration file or the environment, which may be
    overridden; options: those that take one value; spellings: options and switches that set one and the same thing, each with
    the value that it stands for, and None for one that takes a value (see `BOS_SPELLINGS`).
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, fromfile_prefix_chars="@", exit_on_error=False)
    spellings = spellings or {}
    options = list(options)
    switches = [name for name, stands_for in spellings.items() if stands_for is not None]
    for option in dict.fromkeys([*options, *(name for name in spellings if name not in switches)]):
        parser.add_argument(option, action="append", default=[], dest=option)
    for switch in switches:
        parser.add_argument(switch, action="store_true", dest=switch)
    try:
        given = vars(parser.parse_known_args([str(argument) for argument in arguments])[0])
    except (argparse.ArgumentError, SystemExit):  # an option without its value, which the real parser has told
        return ""
    for option in options:
        values = list(dict.fromkeys(given[option]))
        if len(values) > 1:
            said = " and ".join(repr(value) for value in values)
            return f"{option} is given {len(given[option])} times, with {said}: give it once"
    said = {switch: spellings[switch] for switch in switches if given[switch]}
    said |= {f"{name} {value}": value for name in spellings if name not in switches for value in given[name]}
    if len(set(said.values())) > 1:
        return f"{' and '.join(said)} contradict each other: give one of them"
    return ""


def wrong_seed(seed: int) -> str:
    """One sentence about a seed that no generator of random numbers takes; empty for a good one."""
    if seed < 0:
        return "--seed must not be negative"
    return f"--seed must be at most {MOST_SEED} (2**32 - 1): give a smaller one" if seed > MOST_SEED else ""
