//! Plain facts for the arguments of hooks, to be changed by `..`.

use crate::types::{CallInfo, Envelope, Mailbox, MessageInfo, Queued, Recipient, Session};

/// A call on 2027-01-15.
pub fn call() -> CallInfo {
    CallInfo {
        call_id: 1,
        generation: 1,
        now_ms: 1_800_000_000_000,
        seed: 7,
        budget_us: 5000,
        dry_run: false,
    }
}

/// A session in clear text from 192.0.2.1 on the listener `mx`; nobody logged in.
pub fn session() -> Session {
    Session {
        id: "s1".to_owned(),
        listener: "mx".to_owned(),
        client_ip: "192.0.2.1".to_owned(),
        client_port: 40_000,
        local_ip: "192.0.2.25".to_owned(),
        local_port: 25,
        helo: Some("client.example".to_owned()),
        esmtp: true,
        tls: None,
        identity: None,
        may_relay: false,
        meta: Vec::new(),
        ext: Vec::new(),
    }
}

/// A recipient; the address is split at its last `@`.
pub fn recipient(id: u32, address: &str) -> Recipient {
    Recipient { id, address: mailbox(address), meta: Vec::new(), ext: Vec::new() }
}

/// An envelope; no sender is the null sender. Recipients are numbered from 0.
pub fn envelope(sender: Option<&str>, recipients: &[&str]) -> Envelope {
    Envelope {
        id: Some("m1".to_owned()),
        sender: sender.map(mailbox),
        declared_size: None,
        smtputf8: false,
        body_type: "7bit".to_owned(),
        recipient_count: u32::try_from(recipients.len()).unwrap_or(u32::MAX),
        recipients: numbered(recipients),
        meta: Vec::new(),
        ext: Vec::new(),
    }
}

/// A queued message from [`session`]; no sender is the null sender. Recipients are numbered from 0.
pub fn queued(sender: Option<&str>, recipients: &[&str]) -> Queued {
    Queued {
        id: "m1".to_owned(),
        received_ms: call().now_ms,
        expires_ms: Some(call().now_ms + 5 * 24 * 3_600_000),
        session: session(),
        sender: sender.map(mailbox),
        recipients: numbered(recipients),
        message: MessageInfo {
            size: 1000,
            header_count: 0,
            headers: Vec::new(),
            hops: 0,
            ext: Vec::new(),
        },
        meta: Vec::new(),
        ext: Vec::new(),
    }
}

fn numbered(addresses: &[&str]) -> Vec<Recipient> {
    (0..).zip(addresses).map(|(id, address)| recipient(id, address)).collect()
}

fn mailbox(address: &str) -> Mailbox {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    Mailbox::new(local, domain)
}
