"""The record of a verification: who checked which report, claim by claim; signed if there is a key.

A later verification compares the chain of digests with the head in each earlier record, so that a chain that was built
again from the start shows as long as one of them is left; one that is signed cannot be built again with it.
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage.atomic import sha256, write_json
from ..storage.jsonl import read_json
from ..storage.manifest import FILE, RECORDS, STATEMENT, heads
from .claims import Claim
from .verify import run_of

PREDICATE = "https://tieout.dev/verification/v1"
PAYLOAD = "application/vnd.in-toto+json"


def write_record(path: Path, claims: Sequence[Claim], verifier: str = "", key: Any = None) -> Path | None:
    """Write the record of a run folder as an in-toto Statement, with a key in a DSSE envelope; returns where.

    None: the report is in no run folder, or the folder cannot be written, and no key asks for a record.
    InputError: a key does, and it cannot be written.
    """
    run = run_of(path)
    if not (run / "run.json").exists():
        if key is not None:
            raise InputError(f"{path} is in no run folder, so that there is no place for a signed record")
        return None
    chain = heads(run)
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": file.relative_to(run).as_posix(), "digest": {"sha256": sha256(file)}}
            for file in (path, run / FILE)
            if file.exists()
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "verifier": verifier.strip() or _who(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "tieout": metadata.version("tieout"),
            "head": chain[-1] if chain else "",
            "claims": [{**asdict(claim), "status": claim.status} for claim in claims],
        },
    }
    number = 1 + max((int(p.stem) for p in (run / RECORDS).glob("*.json") if p.stem.isdecimal()), default=0)
    target = run / RECORDS / f"{number}.json"
    try:
        write_json(target, statement if key is None else sign(statement, key))
    except OSError as error:
        if key is not None:
            raise InputError(f"the record cannot be written to {target} ({error.strerror})") from error
        return None
    return target


def earlier(run: Path) -> list[Claim]:
    """Whether the run's manifest continues those that were verified before, where there are records of that."""
    paths = sorted((run / RECORDS).glob("*.json"), key=lambda path: (len(path.name), path.name))
    if not paths:
        return []
    chain, problems, keys, unchecked = heads(run), list[str](), set[str](), 0
    for path in paths:
        place = f"{RECORDS}/{path.name}"
        try:
            record = read_json(path)
            if "payload" in record:
                valid = _valid(record)
                keys.add(record["signatures"][0]["keyid"][:16])
                unchecked += valid is None
                if valid is False:
                    problems.append(f"{place}: its signature is not that of its key")
                record = json.loads(base64.b64decode(record["payload"]))
            about = record["predicate"]
            whole = not any(c["what"] == "manifest" and c["status"] == "differs" for c in about["claims"])
            if about["head"] and whole and about["head"] not in chain:
                problems.append(
                    f"{place}: what {about['verifier']} verified at {about['time']} is not in {FILE}: steps were "
                    "removed, or it was written anew"
                )
        except (InputError, LookupError, TypeError, ValueError) as error:
            problems.append(f"{place}: not a record of a verification ({error})")
    said = f"{FILE} continues what {len(paths)} records of earlier verifications name"
    said += f"; signed with {', '.join(sorted(keys))}" if keys else "; none is signed"
    said += f"; {unchecked} signatures were not checked, which needs tieout[sign]" if unchecked else ""
    return [Claim("intact", "verifications", said, problems)]


def _valid(envelope: Any) -> bool | None:
    """Whether a DSSE envelope is signed by the key it names; None: the package that knows is not there."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ModuleNotFoundError:
        return None
    signed = encoded(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    for one in envelope["signatures"]:
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(one["keyid"]))
            key.verify(base64.b64decode(one["sig"]), signed)
        except (InvalidSignature, ValueError):
            return False
    return bool(envelope["signatures"])


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user} on {platform.node()}"


def load_key(path: Path) -> Any:
    """A private key. InputError: it is none of ed25519, or the package that reads it is not there."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError as error:
        raise InputError("--key needs the package cryptography: pip install 'tieout[sign]'") from error
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no private key in PEM without a password ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{path} holds a {type(key).__name__}; expected an ed25519 key: openssl genpkey -algorithm ed25519"
        )
    return key


def sign(statement: Any, key: Any) -> dict[str, Any]:
    """A DSSE envelope of a statement (https://github.com/secure-systems-lab/dsse)."""
    payload = json.dumps(statement, ensure_ascii=False).encode()
    signature = key.sign(encoded(PAYLOAD, payload))
    public = key.public_key().public_bytes_raw()
    return {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": public.hex(), "sig": base64.b64encode(signature).decode()}],
    }


def encoded(kind: str, payload: bytes) -> bytes:
    """What DSSE signs: its pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)
