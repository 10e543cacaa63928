"""Fresh accounts for a load test, made from invite codes.

`python -m loadtests.stack.new_accounts --help` writes a file of their keys.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.accounts import Account, write_accounts
from loadtests.errors import BenchError
from loadtests.stack.floodgate_process import redeem, run_floodgate


def make_accounts(
    gateway_url: str, plans: Mapping[str, int], env: Mapping[str, str]
) -> list[Account]:
    """So many fresh accounts of each plan, by codes that the `floodgate` command prints.

    `env` names the Redis servers, as for the command itself.

    Raises:
        BenchError: no codes, or one was refused.
    """
    found: list[Account] = []
    for plan, count in plans.items():
        if not count:
            continue
        arguments = ["invites", "create", "--count", str(count), "--plan", plan, "--json"]
        codes = _codes(run_floodgate(arguments, env))
        found += redeem_codes(gateway_url, codes, plan)
    return found


def redeem_codes(gateway_url: str, codes: Sequence[str], plan: str) -> list[Account]:
    """One account for each code. Raises BenchError when one is refused."""
    return [
        Account(f"{plan}-{number:03d}", plan, redeem(gateway_url, code))
        for number, code in enumerate(codes, 1)
    ]


def _codes(printed: str) -> list[str]:
    try:
        invites = json.loads(printed)
        invites = invites["invites"] if isinstance(invites, dict) else invites
        return [str(invite["code"]) for invite in invites]
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError(f"no codes in what `invites create` printed: {printed[:300]}") from error


def main() -> int:
    """Read the command line, make accounts, write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.stack.new_accounts", description=__doc__
    )
    parser.add_argument("gateway_url")
    parser.add_argument("--out", type=Path, default=Path("build/bench/keys.jsonl"))
    parser.add_argument(
        "--codes-file", type=Path, help="redeem these codes, one a line, instead of making some"
    )
    parser.add_argument("--plan", default="free")
    parser.add_argument("--count", type=int, default=16)
    options = parser.parse_args()
    try:
        if options.codes_file:
            codes = options.codes_file.read_text().split()
            accounts = redeem_codes(options.gateway_url, codes, options.plan)
        else:
            accounts = make_accounts(options.gateway_url, {options.plan: options.count}, {})
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_accounts(options.out, accounts)
    except (BenchError, OSError) as error:
        print(f"accounts: {error}", file=sys.stderr)
        return 1
    print(f"{len(accounts)} accounts: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
