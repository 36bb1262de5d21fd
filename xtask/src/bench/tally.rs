//! What the sink has seen: which messages, how often, of what body.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::bail;
use tokio::time::Instant;

/// What arrived since the last clearing.
#[derive(Default)]
pub(crate) struct Tally {
    /// Message-ID to the times it came and when it first did.
    messages: HashMap<Vec<u8>, Arrival>,
    /// The same by what stands before the first hyphen of the id: how many, and when the last came.
    kinds: BTreeMap<Vec<u8>, (usize, Instant)>,
    /// How many bodies had this fingerprint.
    bodies: BTreeMap<Body, u64>,
    nameless: u64,
    last: Option<Instant>,
    /// Recipients that were told to come later.
    deferred: HashSet<Vec<u8>>,
}

struct Arrival {
    times: u32,
    first: Instant,
}

/// Length and CRC-32C of what followed the header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Body {
    length: usize,
    checksum: u32,
}

impl Body {
    pub(crate) fn of_lines(lines: &str) -> Body {
        Body::of(lines.as_bytes())
    }

    fn of(octets: &[u8]) -> Body {
        Body { length: octets.len(), checksum: crc32c::crc32c(octets) }
    }
}

/// What the sink is asked.
impl Tally {
    /// How many different messages came, and when the last one did.
    pub(crate) fn all(&self) -> Option<(usize, Instant)> {
        Some((self.messages.len(), self.last?))
    }

    /// The same of one kind.
    pub(crate) fn of(&self, kind: &str) -> Option<(usize, Instant)> {
        self.kinds.get(kind.as_bytes()).copied()
    }

    /// When the message of this id first came, if it did.
    pub(crate) fn arrival(&self, id: &str) -> Option<Instant> {
        self.messages.get(id.as_bytes()).map(|arrival| arrival.first)
    }

    /// The one body all messages had.
    pub(crate) fn body(&self) -> anyhow::Result<Body> {
        let mut bodies = self.bodies.keys();
        match (bodies.next(), bodies.next()) {
            (Some(body), None) => Ok(*body),
            (None, _) => bail!("no message came"),
            _ => bail!("the messages differ in their bodies: {:?}", self.bodies),
        }
    }

    /// Refuses a run in which anything was lost, doubled, changed or made up.
    pub(crate) fn audit(&self, messages: usize, body: Body) -> anyhow::Result<()> {
        let doubled = self.messages.values().filter(|a| a.times > 1).count();
        let same = self.bodies.get(&body).copied().unwrap_or(0);
        let all: u64 = self.bodies.values().sum();
        if self.messages.len() == messages && doubled == 0 && self.nameless == 0 && same == all {
            return Ok(());
        }
        bail!(
            "of {messages} messages the sink holds {}: {doubled} came twice, {} without Message-ID, {} with another body",
            self.messages.len(),
            self.nameless,
            all - same,
        )
    }
}

/// What the sink notes.
impl Tally {
    /// Whether this recipient has not been told to come later.
    pub(crate) fn is_new(&mut self, recipient: &[u8]) -> bool {
        self.deferred.insert(recipient.to_vec())
    }

    /// A message, without what ends it.
    pub(crate) fn count(&mut self, message: &[u8], now: Instant) {
        let header = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4);
        let (header, body) = message.split_at(header);
        *self.bodies.entry(Body::of(body)).or_default() += 1;
        self.last = Some(now);
        let Some(id) = message_id(header) else {
            self.nameless += 1;
            return;
        };
        let arrival = self.messages.entry(id.to_vec()).or_insert(Arrival { times: 0, first: now });
        arrival.times += 1;
        if arrival.times == 1
            && let Some(kind) = kind(id)
        {
            let (count, last) = self.kinds.entry(kind.to_vec()).or_insert((0, now));
            *count += 1;
            *last = now;
        }
    }

    #[cfg(test)]
    pub(crate) fn times(&self, id: &str) -> u32 {
        self.messages.get(id.as_bytes()).map_or(0, |arrival| arrival.times)
    }
}

/// `<slow-17@bench.example>` is of the kind `slow`.
fn kind(id: &[u8]) -> Option<&[u8]> {
    let id = id.strip_prefix(b"<")?;
    Some(&id[..memchr::memchr(b'-', id)?])
}

fn message_id(header: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"message-id:";
    header.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_and_once() {
        let mut tally = Tally::default();
        for id in ["fast-1", "slow-1", "fast-2", "fast-2"] {
            let message = format!("Message-ID: <{id}@x>\r\n\r\nx\r\n");
            tally.count(message.as_bytes(), Instant::now());
        }
        assert_eq!(tally.of("fast").unwrap().0, 2);
        assert_eq!(tally.of("slow").unwrap().0, 1);
        assert_eq!(tally.all().unwrap().0, 3);
        assert!(tally.of("none").is_none());
        assert_eq!(tally.body().unwrap(), Body::of_lines("x\r\n"));
        assert!(tally.audit(3, Body::of_lines("x\r\n")).is_err(), "one came twice");
    }
}
