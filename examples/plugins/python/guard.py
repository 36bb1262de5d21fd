"""`guard`: refuses recipients of blocked domains, resolves aliases, marks what it has seen, and
quarantines what calls itself internal."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.lifecycle import Interest, PluginInfo
from wit_world.imports.types import (
    HeaderPlace,
    Mailbox,
    MessageEdit_AddHeader,
    MessageOutcome,
    MessageVerdict_Proceed,
    MessageVerdict_Quarantine,
    NewHeader,
    PermanentCode,
    PermanentReply,
    Reason,
    RecipientOutcome,
    Refusal_Reject,
    Refusal_Tempfail,
    TransientCode,
    TransientReply,
    Verdict_Proceed,
    Verdict_Refuse,
)


class Settings:
    """The section `[plugin.guard.config]`. An instance serves one all its life."""

    blocked = []
    tag = "X-Guard"


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        read(config)
        interest = Interest(headers=["subject"], events=[], timers=[])
        return PluginInfo(name="guard", version="0.1.0", interest=interest)


class RecipientHook(exports.RecipientHook):
    def on_recipients(self, call, session, envelope, recipients):
        outcomes = [decide(recipient) for recipient in recipients]
        # Recipients that the answer does not mention proceed.
        return [outcome for outcome in outcomes if outcome is not None]


class MessageHook(exports.MessageHook):
    def on_message(self, call, session, envelope, info):
        mark = NewHeader(Settings.tag, "checked by guard in Python", HeaderPlace.TOP)
        internal = any(
            header.name.lower() == "subject" and "[internal]" in header.value
            for header in info.headers
        )
        why = "internal subject"
        return MessageOutcome(
            verdict=MessageVerdict_Quarantine(why) if internal else MessageVerdict_Proceed(),
            recipients=[],
            edits=[MessageEdit_AddHeader(mark)],
            reasons=[Reason("internal-subject", why, None)] if internal else [],
        )


def decide(recipient):
    local, domain = recipient.address.local, recipient.address.domain
    user = local.removeprefix("alias-")
    verdict, replace_with = Verdict_Proceed(), []
    if domain in Settings.blocked:
        text = f"{domain} is not served here"
        reply = PermanentReply(PermanentCode.R550, (7, 1), text)
        verdict = Verdict_Refuse(Refusal_Reject(reply))
        reason = Reason("blocked-domain", text, "blocked")
    elif local == "later":
        text = "the mailbox is not ready"
        reply = TransientReply(TransientCode.R450, None, text)
        verdict = Verdict_Refuse(Refusal_Tempfail(reply))
        reason = Reason("try-later", text, None)
    elif user and user != local:
        replace_with = [Mailbox(user, domain)]
        reason = Reason("alias", f"alias of {user}", None)
    else:
        return None
    return RecipientOutcome(recipient.id, verdict, replace_with, meta=[], reasons=[reason])


def read(config):
    try:
        config = json.loads(config)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise Err("the configuration is no JSON object")
    blocked = config.get("blocked", [])
    if not isinstance(blocked, list) or not all(isinstance(domain, str) for domain in blocked):
        raise Err("blocked must be a list of domains")
    tag = config.get("tag", "X-Guard")
    if not isinstance(tag, str):
        raise Err("tag must be the name of a header field")
    # In lower case, as the relay writes them.
    Settings.blocked = [domain.lower() for domain in blocked]
    Settings.tag = tag
