//! What a next hop offers in its reply to EHLO (RFC 5321 §4.1.1.1).

use std::collections::HashSet;

use crate::Domain;
use crate::reply::Reply;

/// Most AUTH mechanisms remembered, of at most 20 octets each (RFC 4422 §3.1).
const MAX_MECHANISMS: usize = 32;

/// The service extensions a next hop offers. The default is none at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// SIZE was offered: MAIL may declare the size of the message (RFC 1870 §3).
    pub declares_size: bool,
    /// The largest message taken, in octets; absent when it has no limit or tells none.
    pub size: Option<u64>,
    /// Commands may be sent ahead of replies (RFC 2920).
    pub pipelining: bool,
    /// `BODY=8BITMIME` (RFC 6152).
    pub eight_bit_mime: bool,
    /// Internationalized addresses and header fields (RFC 6531).
    pub smtputf8: bool,
    /// BDAT (RFC 3030).
    pub chunking: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// AUTH mechanisms in upper case, in the order they were offered (RFC 4954 §3).
    pub auth: Vec<String>,
    /// Replies carry enhanced codes (RFC 2034).
    pub enhanced_status_codes: bool,
    /// Delivery status parameters (RFC 3461).
    pub dsn: bool,
    /// `BODY=BINARYMIME` (RFC 3030 §3).
    pub binary_mime: bool,
    /// `REQUIRETLS` (RFC 8689 §2).
    pub require_tls: bool,
    /// `BY` (RFC 2852), and the least seconds that must be left for mail to come back; 0 when it
    /// tells none.
    pub deliver_by: Option<i64>,
    /// `MT-PRIORITY` (RFC 6710).
    pub mt_priority: bool,
    /// What it takes at most (RFC 9422).
    pub limits: Limits,
}

/// How much a next hop takes, as far as it tells (RFC 9422 §4). Zero is no limit that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// `MAILMAX`: messages in one session.
    pub messages: Option<usize>,
    /// `RCPTMAX`: recipients of one message.
    pub recipients: Option<usize>,
    /// `RCPTDOMAINMAX`: different domains of the recipients of one message.
    pub domains: Option<usize>,
}

impl Extensions {
    /// Nothing is offered: a next hop that knows HELO only.
    pub fn none() -> Extensions {
        Extensions::default()
    }

    /// Reads a positive reply to EHLO. The first line is a greeting; unknown keywords are ignored.
    pub fn parse(reply: &Reply) -> Extensions {
        let mut offered = Extensions::none();
        for line in reply.text.split('\n').skip(1) {
            offered.add(line);
        }
        offered
    }

    /// True when `mechanism`, in upper case, is offered.
    pub fn offers_auth(&self, mechanism: &str) -> bool {
        self.auth.iter().any(|offered| offered == mechanism)
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "SIZE" => {
                self.declares_size = true;
                self.size = words.next().and_then(|n| n.parse().ok()).filter(|limit| *limit > 0);
            }
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "STARTTLS" => self.starttls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "DSN" => self.dsn = true,
            "BINARYMIME" => self.binary_mime = true,
            "REQUIRETLS" => self.require_tls = true,
            "MT-PRIORITY" => self.mt_priority = true,
            "DELIVERBY" => {
                self.deliver_by = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0));
            }
            "LIMITS" => words.for_each(|word| self.limits.add(word)),
            "AUTH" => self.add_mechanisms(words),
            // What servers sent before RFC 2554, and some still send beside the other form.
            old if old.starts_with("AUTH=") => {
                self.add_mechanisms(old[5..].split_ascii_whitespace().chain(words));
            }
            _ => {}
        }
    }

    fn add_mechanisms<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names.filter(|name| name.len() <= 20) {
            let name = name.to_ascii_uppercase();
            if self.auth.len() < MAX_MECHANISMS && !self.auth.contains(&name) {
                self.auth.push(name);
            }
        }
    }
}

impl Limits {
    /// How many of the first recipients, by their domains, one message may have; at least one.
    pub fn room<'a>(&self, recipients: impl Iterator<Item = &'a Domain>) -> usize {
        let mut domains = HashSet::new();
        let (most, different) =
            (self.recipients.unwrap_or(usize::MAX), self.domains.unwrap_or(usize::MAX));
        let fits = |domain: &&'a Domain| {
            domains.insert(*domain);
            domains.len() <= different
        };
        recipients.take(most).take_while(fits).count().max(1)
    }

    /// Names that are not known, and values that are no numbers, are ignored (RFC 9422 §3).
    fn add(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else { return };
        let limit = value.parse().ok().filter(|limit| *limit > 0);
        match name.to_ascii_uppercase().as_str() {
            "MAILMAX" => self.messages = limit,
            "RCPTMAX" => self.recipients = limit,
            "RCPTDOMAINMAX" => self.domains = limit,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Extensions {
        Extensions::parse(&Reply::plain(250, "").with_text(text))
    }

    #[test]
    fn every_known_keyword_is_seen() {
        let all = "mx.example.org greets you\nSIZE 1000\nPipelining\n8bitmime\nSMTPUTF8\nCHUNKING\n\
                   STARTTLS\nENHANCEDSTATUSCODES\nDSN\nAUTH plain LOGIN\nX-OTHER thing\n\
                   BINARYMIME\nREQUIRETLS\nDELIVERBY 120\nMT-PRIORITY MIXER\n\
                   LIMITS RCPTMAX=20 mailmax=5 RCPTDOMAINMAX=1 OTHER=2 x";
        let expected = Extensions {
            declares_size: true,
            size: Some(1000),
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            chunking: true,
            starttls: true,
            auth: vec!["PLAIN".into(), "LOGIN".into()],
            enhanced_status_codes: true,
            dsn: true,
            binary_mime: true,
            require_tls: true,
            deliver_by: Some(120),
            mt_priority: true,
            limits: Limits { messages: Some(5), recipients: Some(20), domains: Some(1) },
        };
        assert_eq!(parsed(all), expected);
    }

    #[test]
    fn the_greeting_line_offers_nothing() {
        assert_eq!(parsed("STARTTLS"), Extensions::none());
        assert_eq!(parsed(""), Extensions::none());
    }

    #[test]
    fn a_size_of_nothing_is_no_limit() {
        for line in ["x\nSIZE", "x\nSIZE 0", "x\nSIZE many", "x\nSIZE 99999999999999999999999"] {
            let offered = parsed(line);
            assert_eq!((offered.declares_size, offered.size), (true, None), "{line:?}");
        }
    }

    #[test]
    fn limits_that_make_no_sense_are_none() {
        for line in ["x\nLIMITS", "x\nLIMITS RCPTMAX=0 MAILMAX=-1", "x\nLIMITS RCPTMAX MAILMAX="] {
            assert_eq!(parsed(line).limits, Limits::default(), "{line:?}");
        }
        assert_eq!(parsed("x\nDELIVERBY").deliver_by, Some(0));
    }

    #[test]
    fn recipients_go_as_many_as_there_is_room() {
        let domains = ["a.example", "a.example", "b.example", "a.example", "c.example"];
        let domains = domains.map(|name| Domain::parse(name).unwrap());
        let room = |recipients, domains_at_most| {
            let limits = Limits { messages: None, recipients, domains: domains_at_most };
            limits.room(domains.iter())
        };
        assert_eq!((room(None, None), room(Some(3), None), room(Some(9), None)), (5, 3, 5));
        assert_eq!((room(None, Some(1)), room(None, Some(2)), room(Some(1), Some(2))), (2, 4, 1));
    }

    #[test]
    fn both_forms_of_auth_make_one_list() {
        let offered = parsed("x\nAUTH=LOGIN PLAIN\nAUTH PLAIN SCRAM-SHA-256");
        assert_eq!(offered.auth, ["LOGIN", "PLAIN", "SCRAM-SHA-256"]);
        assert!(offered.offers_auth("SCRAM-SHA-256") && !offered.offers_auth("CRAM-MD5"));
    }

    #[test]
    fn mechanisms_are_bounded() {
        let many: String = (0..1000).map(|n| format!(" M{n}")).collect();
        assert_eq!(parsed(&format!("x\nAUTH {many}")).auth.len(), MAX_MECHANISMS);
        assert!(parsed("x\nAUTH ABCDEFGHIJKLMNOPQRSTUVWXYZ").auth.is_empty());
    }
}
