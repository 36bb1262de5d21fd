"""Verifies every signature of each message with dkimpy: `dkimpy.py PORT FILE...`.

Asks the DNS server at PORT. Writes one line for each file: pass or fail for each signature, from
the top. Reasons go to standard error.
"""

import logging
import sys

import dkim
import dns.resolver

logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = ["127.0.0.1"]
resolver.port = int(sys.argv[1])


def txt(name, timeout=5):
    try:
        answer = resolver.resolve(name.decode("ascii"), "TXT", lifetime=timeout)
    except dns.resolver.NXDOMAIN:
        return None
    return b"".join(answer[0].strings)


def verdict(message, index):
    try:
        return dkim.DKIM(message, logger=logging.getLogger()).verify(idx=index, dnsfunc=txt)
    except dkim.DKIMException as reason:
        print(f"signature {index}: {reason}", file=sys.stderr)
        return False


for path in sys.argv[2:]:
    with open(path, "rb") as file:
        message = file.read()
    headers, _ = dkim.rfc822_parse(message)
    count = sum(name.lower() == b"dkim-signature" for name, _ in headers)
    print(" ".join("pass" if verdict(message, index) else "fail" for index in range(count)))
