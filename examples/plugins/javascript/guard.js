// `guard`: refuses recipients of blocked domains, resolves aliases, marks what it has seen, and
// quarantines what calls itself internal.

// An instance serves one configuration all its life.
let settings;

export const lifecycle = {
  init(config) {
    settings = parse(config);
    return {
      name: "guard",
      version: "0.1.0",
      interest: { headers: ["subject"], events: [], timers: [] },
    };
  },
};

export const recipientHook = {
  onRecipients(_call, _session, _envelope, recipients) {
    // Recipients that the answer does not mention proceed.
    return recipients.map(decide).filter((outcome) => outcome !== undefined);
  },
};

export const messageHook = {
  onMessage(_call, _session, _envelope, info) {
    const mark = { name: settings.tag, value: "checked by guard in JavaScript", place: "top" };
    const internal = info.headers.some(
      ({ name, value }) => name.toLowerCase() === "subject" && value.includes("[internal]"),
    );
    const why = "internal subject";
    return {
      verdict: internal ? { tag: "quarantine", val: why } : { tag: "proceed" },
      recipients: [],
      edits: [{ tag: "add-header", val: mark }],
      reasons: internal ? [{ code: "internal-subject", text: why, rule: undefined }] : [],
    };
  },
};

function decide({ id, address: { local, domain } }) {
  const outcome = { id, verdict: { tag: "proceed" }, replaceWith: [], meta: [], reasons: [] };
  if (settings.blocked.includes(domain)) {
    const text = `${domain} is not served here`;
    outcome.verdict = refuse("reject", { code: "r550", enhanced: [7, 1], text });
    outcome.reasons.push({ code: "blocked-domain", text, rule: "blocked" });
  } else if (local === "later") {
    const text = "the mailbox is not ready";
    outcome.verdict = refuse("tempfail", { code: "r450", enhanced: undefined, text });
    outcome.reasons.push({ code: "try-later", text, rule: undefined });
  } else if (local.startsWith("alias-") && local.length > "alias-".length) {
    const user = local.slice("alias-".length);
    outcome.replaceWith.push({ local: user, domain });
    outcome.reasons.push({ code: "alias", text: `alias of ${user}`, rule: undefined });
  } else {
    return undefined;
  }
  return outcome;
}

function refuse(tag, reply) {
  return { tag: "refuse", val: { tag, val: reply } };
}

/** The section `[plugin.guard.config]`. What is thrown here is the `err` of `init`. */
function parse(config) {
  const { blocked = [], tag = "X-Guard" } = object(config);
  if (!Array.isArray(blocked) || !blocked.every((domain) => typeof domain === "string")) {
    throw "blocked must be a list of domains";
  }
  if (typeof tag !== "string") {
    throw "tag must be the name of a header field";
  }
  // In lower case, as the relay writes them.
  return { blocked: blocked.map((domain) => domain.toLowerCase()), tag };
}

function object(config) {
  let value;
  try {
    value = JSON.parse(config);
  } catch {
    // The same complaint as below.
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw "the configuration is no JSON object";
  }
  return value;
}
