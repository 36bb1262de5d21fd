"""What others say: `opinion.py PORT` reads a list of cases as JSON and writes one answer for each.

Asks the DNS server at PORT. A case is one of
  {"do": "spf", "ip", "helo", "sender"}                  pyspf: the result
  {"do": "judge", "message", "ip", "helo", "sender"}     authheaders: {method: result}
  {"do": "seal", "message", "selector", "domain", "key", "id"}   dkimpy: the message, sealed
  {"do": "chain", "message"}                             dkimpy: the result of ARC
  {"do": "sign", "message", "selector", "domain", "key", "options"}   dkimpy: the message, signed
Messages are in base64.
"""

import base64
import json
import re
import sys

import dns.resolver

resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = ["127.0.0.1"]
resolver.port = int(sys.argv[1])
resolver.lifetime = 5
dns.resolver.default_resolver = resolver

import authheaders  # noqa: E402
import dkim  # noqa: E402
import spf  # noqa: E402


def txt(name, timeout=5):
    name = name.decode("ascii") if isinstance(name, bytes) else name
    try:
        answer = resolver.resolve(name, "TXT", lifetime=timeout)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    return b"".join(answer[0].strings)


def message(case):
    return base64.b64decode(case["message"])


def shown(octets):
    return base64.b64encode(octets).decode("ascii")


def do_spf(case):
    result, _ = spf.check2(i=case["ip"], s=case["sender"], h=case["helo"])
    return result


def do_judge(case):
    field = authheaders.authenticate_message(
        message(case),
        "opinion.example",
        spf=True,
        ip=case["ip"],
        mail_from=case["sender"],
        helo=case["helo"],
    )
    return dict(re.findall(r"[;\s](spf|dkim|dmarc)=(\w+)", field))


def do_seal(case):
    fields = dkim.arc_sign(
        message(case),
        case["selector"].encode(),
        case["domain"].encode(),
        case["key"].encode(),
        case["id"].encode(),
    )
    return shown(b"".join(fields) + message(case))


def do_chain(case):
    cv, _, reason = dkim.ARC(message(case)).verify(dnsfunc=txt)
    print(reason, file=sys.stderr)
    # None: somebody before found it broken.
    return (cv or b"fail").decode()


def do_sign(case):
    options = {key: value.encode() for key, value in case["options"].items()}
    if "include_headers" in options:
        options["include_headers"] = options["include_headers"].split(b":")
    if "canonicalize" in options:
        options["canonicalize"] = tuple(options["canonicalize"].split(b"/"))
    length = options.pop("length", None) is not None
    field = dkim.sign(
        message(case),
        case["selector"].encode(),
        case["domain"].encode(),
        case["key"].encode(),
        length=length,
        **options,
    )
    return shown(field + message(case))


print(json.dumps([globals()["do_" + case["do"]](case) for case in json.load(sys.stdin)]))
